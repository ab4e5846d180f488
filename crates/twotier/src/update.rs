//! `update`: compare-and-set against the backend.

use std::sync::Arc;

use bytes::Bytes;
use twotier_core::{Error, Operation};
use twotier_local::Digest;

use crate::{Result, SetOptions, meter::Call, shared::Shared};

impl<V: Send + Sync + 'static> Shared<V> {
    pub(crate) async fn update<T: Into<Arc<V>>>(
        self: &Arc<Self>,
        key: &str,
        change: impl FnMut(Option<&V>) -> Option<T>,
    ) -> Result<Option<Arc<V>>> {
        let operation = Operation::Update;
        self.check_key(operation, key)?;
        self.open(operation)?;
        self.loads.supersede(key);
        self.within(operation, self.change_until_set(key, change)).await
    }

    async fn change_until_set<T: Into<Arc<V>>>(
        self: &Arc<Self>,
        key: &str,
        mut change: impl FnMut(Option<&V>) -> Option<T>,
    ) -> Result<Option<Arc<V>>> {
        loop {
            // Registered before the read and ended after the write: what `change` saw may be newer than a copy, which
            // must not be served afterwards. The ticket installs nothing, because the server reports what a script
            // writes to its own connection too, and that report may come after the reply.
            let ticket = self.local.as_ref().map(|local| local.begin_write(key, Digest::ABSENT));
            let (held, encoded) = self.held(key).await?;
            let changed: Option<Arc<V>> = change(held.as_deref()).map(Into::into);
            if held.is_none() && changed.is_none() {
                return Ok(None);
            }
            let options = SetOptions::default();
            let prepared = changed.map(|value| self.prepare(Operation::Update, key, value, options)).transpose()?;
            let (value, bytes, ttl) = match prepared {
                Some(prepared) => (Some(prepared.value), Some(prepared.bytes), prepared.ttl),
                None => (None, None, None),
            };
            let qualified = self.namespace.qualify(key);
            let turn = self.turn(Operation::Update, 1).await?;
            let shared = Arc::clone(self);
            let write = async move {
                let _turn = turn;
                let call = shared.backend.compare_and_set(&qualified, encoded, bytes, ttl);
                let result = shared.meter.call(Call::Write, call, Result::is_err).await;
                drop(ticket);
                if let Some(Ok(key)) = shared.namespace.strip(&qualified).map(std::str::from_utf8) {
                    shared.loads.supersede(key);
                }
                result.map_err(|source| shared.backend_failed(Operation::Update, source))
            };
            if self.detached(Operation::Update, write).await? {
                return Ok(value);
            }
        }
    }

    /// Reads what the backend holds, decoded and as it is.
    async fn held(&self, key: &str) -> Result<(Option<Arc<V>>, Option<Bytes>)> {
        let operation = Operation::Update;
        let qualified = self.namespace.qualify(key);
        let turn = self.turn(operation, 1).await?;
        let stored = self.meter.call(Call::Read, self.backend.get(&qualified), Result::is_err).await;
        drop(turn);
        let Some(stored) = stored.map_err(|source| self.backend_failed(operation, source))? else {
            return Ok((None, None));
        };
        let (size, limit) = (stored.value.len(), self.settings.max_value_bytes);
        if size > limit {
            return Err(Error::ValueTooLarge { operation, namespace: self.namespace.clone(), size, limit });
        }
        let value = self.codec.decode_at(self.place(key), &stored.value).map_err(|source| {
            self.meter.undecodable();
            Error::Codec { operation, namespace: self.namespace.clone(), source }
        })?;
        if value.is_none() {
            // `change` sees an absent key, and what it makes replaces these very bytes and no later ones.
            self.meter.foreign();
        }
        Ok((value.map(Arc::new), Some(stored.value)))
    }
}
