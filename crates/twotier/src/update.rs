//! `update`: compare-and-set against the backend.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use twotier_backend::{Write, WriteCondition};
use twotier_core::Operation;
use twotier_local::Digest;

use crate::{
    Change, Result,
    change::Action,
    meter::Call,
    remote::{Cost, Links, Prepared},
    tiers::Tiers,
    write::one_each,
};

/// The longest first pause of those who change one key at once. It doubles with every attempt in vain.
const FIRST_BACKOFF: Duration = Duration::from_millis(1);
const LONGEST_BACKOFF: Duration = Duration::from_millis(64);

/// What part of a deadline a change may take before those behind hold it for gone: it is two round trips.
const PATIENCE: u32 = 4;

impl<V: Send + Sync + 'static> Tiers<V> {
    pub(crate) async fn update(
        &self,
        key: &str,
        change: impl FnMut(Option<&V>) -> Change<V>,
    ) -> Result<Option<Arc<V>>> {
        let operation = Operation::Update;
        self.remote.check_key(operation, key)?;
        self.remote.open(operation)?;
        let sent = Arc::new(AtomicBool::new(false));
        let changed = self.change_until_set(key, &sent, change);
        let timeout = self.remote.settings.op_timeout;
        match self.remote.runtime.timeout(timeout, changed).await {
            Ok(result) => result,
            Err(_elapsed) => {
                self.remote.meter.timed_out(Call::Write);
                self.remote.breakers.timed_out(&Links::One(self.local.route(key)));
                Err(self.remote.timed_out(operation, sent.load(Ordering::Acquire)))
            }
        }
    }

    /// `sent` says whether a change is under way whose outcome is not known.
    async fn change_until_set(
        &self,
        key: &str,
        sent: &Arc<AtomicBool>,
        mut change: impl FnMut(Option<&V>) -> Change<V>,
    ) -> Result<Option<Arc<V>>> {
        self.settle(Operation::Update, key).await?;
        // Those of this cache go one after the other: of many at once all but one would call `change` in vain.
        let place = self.updates.stand(key);
        let _turn = place.turn(&self.remote.runtime, self.remote.settings.op_timeout / PATIENCE).await;
        let mut backoff = FIRST_BACKOFF;
        loop {
            // Registered before the read and ended after the write: what `change` saw may be newer than a copy, which
            // must not be served afterwards. The ticket installs nothing, because the server reports what a script
            // writes to its own connection too, and that report may come after the reply.
            let ticket = self.local.begin_write(key, Digest::ABSENT);
            let (held, encoded) = self.held(key).await?;
            let (prepared, keeps_life) = match change(held.as_deref()).action {
                Action::Nothing => return Ok(held),
                Action::Remove if held.is_none() => return Ok(None),
                Action::Remove => (None, false),
                Action::Set { value, options, keeps_life } => {
                    (Some(self.remote.prepare(Operation::Update, key, value, options)?), keeps_life)
                }
            };
            let (value, bytes, ttl) = match prepared {
                Some(Prepared { value, bytes, ttl, .. }) => (value, Some(bytes), ttl),
                None => (None, None, None),
            };
            let (remote, qualified) = (Arc::clone(&self.remote), self.remote.namespace.qualify(key));
            let cost = Cost::of_writes(std::iter::once(bytes.as_ref().map_or(0, Bytes::len)));
            let sending = Arc::clone(sent);
            let links = Links::One(ticket.mark().link);
            let write = self.remote.write(Operation::Update, links, cost, false, move |permit| async move {
                sending.store(true, Ordering::Release);
                let replacing = async {
                    match (encoded, bytes) {
                        (Some(encoded), Some(bytes)) if keeps_life => {
                            let condition = WriteCondition::Holds(encoded);
                            let write = Write::new(qualified, bytes, ttl).keep_ttl().only_if(condition);
                            one_each(1, remote.backend.set_many(&[write]).await).remove(0)
                        }
                        (encoded, bytes) => remote.backend.compare_and_set(&qualified, encoded, bytes, ttl).await,
                    }
                };
                let result = remote.call(Call::Write, ticket.mark().link, replacing).await;
                drop(permit);
                drop(ticket);
                result.map_err(|source| remote.backend_failed(Operation::Update, source))
            });
            if self.remote.written(write).await? {
                return Ok(value);
            }
            sent.store(false, Ordering::Release);
            // Somebody elsewhere changed it in between. Pauses drawn at random, from none to ever longer ones, keep
            // those who change one key at once from meeting again and again.
            self.remote.runtime.sleep(backoff.mul_f64(fastrand::f64())).await;
            backoff = (backoff * 2).min(LONGEST_BACKOFF);
        }
    }

    /// Reads what the backend holds, decoded and as it is.
    async fn held(&self, key: &str) -> Result<(Option<Arc<V>>, Option<Bytes>)> {
        let operation = Operation::Update;
        let Some(stored) = self.remote.read_stored(operation, key).await? else { return Ok((None, None)) };
        // `change` sees bytes that read as an absent key as one, and what it makes replaces these very bytes and no
        // later ones.
        let value = self.remote.decode(operation, key, &stored.value)?;
        Ok((value.map(Arc::new), Some(stored.value)))
    }
}
