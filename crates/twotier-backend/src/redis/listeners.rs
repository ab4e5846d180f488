//! The caches on one link: who is notified of what.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use tokio::{sync::watch, time::Instant};
use twotier_core::{BackendError, BackendErrorKind, Coherence, Lease, LinkId, Mark, Namespace, Timestamp};

use crate::{BackendResult, Watch};

use super::{census::Place, wire::ValueLimit};

/// More prefixes than this are worth a warning: a write takes several times as long then.
const MANY_PREFIXES: u64 = 50;
/// How many namespaces are named where there are many.
const NAMED: usize = 3;

/// The caches on one link, by their namespaces, of which no two overlap: a key belongs to one of them at most.
#[derive(Default)]
pub(super) struct Listeners {
    link: LinkId,
    place: Arc<Place>,
    /// In the order of the namespaces' prefixes. Replaced whole, so that whoever reports holds nothing.
    members: RwLock<Arc<Vec<Arc<Member>>>>,
    /// How many of them are reported nothing.
    unreported: AtomicUsize,
    /// How changes come to the others, once somebody has asked for a mode or the server has said which it has.
    mode: Mutex<Option<Coherence>>,
    /// Whether somebody was warned of prefixes.
    warned: AtomicBool,
    /// As large as the largest value that one of them can use.
    limit: ValueLimit,
}

/// One cache on a link.
pub(super) struct Member {
    watch: Watch,
    link: LinkId,
    /// The handle of the backend that it came with.
    handle: u64,
    /// Whether its changes are being reported. Changed under the lock of the link's state only, as the next one is.
    up: AtomicBool,
    /// Whether it is off the link for good.
    left: AtomicBool,
    /// What became of it on the link there is, or at the last attempt to make one.
    standing: watch::Sender<Standing>,
}

/// How a cache stands with its link.
#[derive(Clone, Debug)]
pub(super) enum Standing {
    /// It was not tested yet.
    Waiting,
    Admitted(Coherence),
    Refused(BackendError),
}

/// A cache that is being put on its links. Dropped before it is admitted, it is off them again.
pub(super) struct Joining<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Joining<F> {
    pub(super) fn new(leave: F) -> Self {
        Self(Some(leave))
    }

    /// It is admitted.
    pub(super) fn end(mut self) {
        self.0 = None;
    }
}

impl<F: FnOnce()> Drop for Joining<F> {
    fn drop(&mut self) {
        if let Some(leave) = self.0.take() {
            leave();
        }
    }
}

impl Listeners {
    /// Makes room for the caches on a link, the keys of which lie in this place.
    pub(super) fn new(link: LinkId, place: Arc<Place>) -> Self {
        Self { link, place, ..Self::default() }
    }

    pub(super) fn place(&self) -> &Arc<Place> {
        &self.place
    }

    /// Adds a cache, whose mode must be that of the others.
    pub(super) fn join(&self, watch: Watch, handle: u64) -> BackendResult<Arc<Member>> {
        let refuse = |kind, message: String| Err(BackendError::new(kind, message).not_sent());
        let mut members = self.members.write();
        if members.iter().any(|member| member.handle == handle) {
            let message = "this handle already serves a cache; give each cache a clone of its own";
            return refuse(BackendErrorKind::Unsupported, message.to_owned());
        }
        let namespace = &watch.namespace;
        for Watch { namespace: other, .. } in members.iter().map(|member| &member.watch) {
            if namespace == other {
                let message = format!(
                    "another cache on this link has the namespace `{namespace}`: clone that cache, or give this one a \
                     link of its own (`RedisBackend::another_link`)"
                );
                return refuse(BackendErrorKind::Rejected, message);
            }
            if namespace.overlaps(other) {
                let message = format!(
                    "the namespaces `{namespace}` and `{other}`, which another cache on this link has, overlap: keys \
                     of one would be keys of the other"
                );
                return refuse(BackendErrorKind::Rejected, message);
            }
        }
        let in_force = *self.mode.lock();
        let agrees = match (in_force, watch.coherence) {
            (Some(mode), Some(asked)) => mode == asked,
            (None, Some(asked)) => asked == Coherence::Broadcast,
            (_, None) => true,
        };
        if !is_reported(&watch) {
            // Nothing is reported to it in any mode.
        } else if !members.iter().any(|member| member.is_reported()) {
            // The first one decides.
            self.fix(watch.coherence);
        } else if !agrees {
            let word = |mode: Option<Coherence>| mode.map_or_else(|| "the best".to_owned(), |mode| mode.to_string());
            let message = format!(
                "the caches on this link have the coherence `{}`: one with `{}` needs a link of its own \
                 (`RedisBackend::another_link`)",
                word(in_force),
                word(watch.coherence)
            );
            return refuse(BackendErrorKind::Unsupported, message);
        }
        self.limit.admit(watch.max_value_bytes, members.is_empty());
        self.unreported.fetch_add(usize::from(!is_reported(&watch)), Ordering::Relaxed);
        let member = Arc::new(Member {
            watch,
            link: self.link,
            handle,
            up: AtomicBool::new(false),
            left: AtomicBool::new(false),
            standing: watch::Sender::new(Standing::Waiting),
        });
        let place = members.partition_point(|other| other.prefix() < member.prefix());
        let mut all = Vec::clone(&members);
        all.insert(place, Arc::clone(&member));
        *members = Arc::new(all);
        Ok(member)
    }

    /// Removes the cache that came with this handle, if one did.
    pub(super) fn leave(&self, handle: u64) -> Option<Arc<Member>> {
        let mut members = self.members.write();
        let place = members.iter().position(|member| member.handle == handle)?;
        let mut all = Vec::clone(&members);
        let left = all.remove(place);
        self.unreported.fetch_sub(usize::from(!left.is_reported()), Ordering::Relaxed);
        *members = Arc::new(all);
        Some(left)
    }

    /// Returns the cache that came with this handle, if one did.
    pub(super) fn with_handle(&self, handle: u64) -> Option<Arc<Member>> {
        self.members.read().iter().find(|member| member.handle == handle).map(Arc::clone)
    }

    pub(super) fn all(&self) -> Arc<Vec<Arc<Member>>> {
        Arc::clone(&self.members.read())
    }

    /// Returns the cache that this name in the backend belongs to.
    pub(super) fn of(&self, name: &[u8]) -> Option<Arc<Member>> {
        let members = self.members.read();
        // Prefixes end with a `:`, and none is the beginning of another: the one that a name lies under is the last
        // that is not after it.
        let after = members.partition_point(|member| member.prefix() <= name);
        members[..after].last().filter(|member| name.starts_with(member.prefix())).map(Arc::clone)
    }

    /// Returns whether changes are to be reported to any of them.
    pub(super) fn are_reported(&self) -> bool {
        self.members.read().iter().any(|member| member.is_reported())
    }

    /// Returns whether this key is of a cache to which changes are not reported, beside others to which they are.
    pub(super) fn is_unreported(&self, key: &[u8]) -> bool {
        self.unreported.load(Ordering::Relaxed) > 0 && self.of(key).is_some_and(|member| !member.is_reported())
    }

    /// Returns the mode of those to whom changes are reported, `None` for the best there is.
    pub(super) fn mode(&self) -> Option<Coherence> {
        *self.mode.lock()
    }

    /// Fixes the mode: a later link in a weaker one would be a silent one to those who are here.
    pub(super) fn fix(&self, mode: impl Into<Option<Coherence>>) {
        *self.mode.lock() = mode.into();
    }

    /// The largest value that is read, as the connections are to heed it.
    pub(super) fn limit(&self) -> &ValueLimit {
        &self.limit
    }

    /// Warns, once, of a server on which every write pays for many prefixes, by what its `INFO stats` says.
    pub(super) fn warn_of_prefixes(&self, stats: &str) {
        let tracked = stats.lines().find_map(|line| line.strip_prefix("tracking_total_prefixes:"));
        let tracked: u64 = tracked.and_then(|number| number.trim().parse().ok()).unwrap_or(0);
        if tracked > MANY_PREFIXES && !self.warned.swap(true, Ordering::Relaxed) {
            let namespaces = self.names();
            tracing::warn!(
                namespace = %namespaces,
                tracked,
                "every write on the server pays for each prefix that is tracked there; one `key_prefix` is one"
            );
        }
    }

    /// Returns the namespaces in words.
    pub(super) fn names(&self) -> String {
        let members = self.all();
        let mut names: Vec<_> = members.iter().take(NAMED).map(|member| member.namespace().to_string()).collect();
        match members.len() {
            // Operations without a cache have no namespace.
            0 => names.push("-".to_owned()),
            all if all > NAMED => names.push(format!("and {} more", all - NAMED)),
            _ => {}
        }
        names.join(", ")
    }
}

fn is_reported(watch: &Watch) -> bool {
    watch.coherence != Some(Coherence::None)
}

impl Member {
    /// Returns whether changes are to be reported to it.
    pub(super) fn is_reported(&self) -> bool {
        is_reported(&self.watch)
    }

    /// Returns what the cache asked for, and the handle that it came with.
    pub(super) fn watch(&self) -> (&Watch, u64) {
        (&self.watch, self.handle)
    }

    pub(super) fn namespace(&self) -> &Namespace {
        &self.watch.namespace
    }

    fn prefix(&self) -> &[u8] {
        self.watch.namespace.prefix().as_bytes()
    }

    /// Returns the longest that a copy may be served after the last proof of life.
    pub(super) fn max_staleness(&self) -> Duration {
        self.watch.max_staleness
    }

    /// Returns now and the epoch of the link, for a request that is sent after this.
    pub(super) fn mark(&self) -> Mark {
        self.watch.listener.mark(self.link)
    }

    /// Proves what was reported before a mark, as far as somebody vouches for the server: as of this time, which is no
    /// later than when the mark was made.
    pub(super) fn proof_of_life(&self, mark: Mark, marked: Instant, as_of: Instant) {
        let at = mark.at.saturating_sub(marked.saturating_duration_since(as_of));
        self.watch.listener.proof_of_life(Mark::new(mark.link, mark.epoch, at));
    }

    pub(super) fn changed(&self, key: &[u8]) {
        self.watch.listener.changed(key);
    }

    pub(super) fn flushed(&self) {
        self.watch.listener.flushed(self.link);
    }

    pub(super) fn invalidation_took(&self, lag: Duration) {
        self.watch.listener.invalidation_took(lag);
    }

    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Notifies that changes are being reported, since then, unless it has left. Returns the mark that this proves.
    pub(super) fn link_up(&self, reported_since: Timestamp) -> Option<Mark> {
        if self.left.load(Ordering::Relaxed) {
            return None;
        }
        self.up.store(true, Ordering::Relaxed);
        self.watch.listener.link_up(self.link, Lease::Renewed);
        Some(Mark::new(self.link, self.mark().epoch, reported_since))
    }

    /// Notifies that changes are not being reported any more, if they were.
    pub(super) fn link_lost(&self, cause: &BackendError) {
        if self.up.swap(false, Ordering::Relaxed) {
            self.watch.listener.link_lost(self.link, cause);
        }
    }

    /// Takes it off the link for good.
    pub(super) fn left(&self, cause: &BackendError) {
        self.left.store(true, Ordering::Relaxed);
        self.link_lost(cause);
        self.stands(Standing::Refused(cause.clone()));
    }

    pub(super) fn stands(&self, standing: Standing) {
        self.standing.send_replace(standing);
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(&*self.standing.borrow(), Standing::Waiting)
    }

    pub(super) fn is_refused(&self) -> bool {
        matches!(&*self.standing.borrow(), Standing::Refused(_))
    }

    /// Refuses it if nothing was decided yet.
    pub(super) fn is_refused_if_waiting(&self, cause: &BackendError) {
        if self.is_waiting() {
            self.stands(Standing::Refused(cause.clone()));
        }
    }

    pub(super) fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use twotier_core::IgnoreChanges;

    use super::*;

    fn watch(namespace: &str) -> Watch {
        Watch::new(Namespace::new(namespace).unwrap(), Arc::new(IgnoreChanges))
    }

    #[test]
    fn a_name_belongs_to_the_one_namespace_it_lies_under_whatever_others_there_are() {
        let listeners = Listeners::default();
        for (handle, namespace) in (0..).zip(["b", "a:x", "ab", "a:y:z", "c", "a!"]) {
            listeners.join(watch(namespace), handle).unwrap();
        }
        for (name, owner) in [
            ("b:k", Some("b")),
            ("b", None),
            ("a:k", None),
            ("a:x:", Some("a:x")),
            ("a:x:k:l", Some("a:x")),
            ("a:xy:k", None),
            ("a:y:z:k", Some("a:y:z")),
            ("a:y:k", None),
            ("ab:k", Some("ab")),
            ("a!:k", Some("a!")),
            ("", None),
            ("zz:k", None),
        ] {
            let found = listeners.of(name.as_bytes());
            assert_eq!(found.as_ref().map(|member| member.namespace().as_str()), owner, "{name}");
        }
        assert_eq!(listeners.names(), "a!, a:x, a:y:z, and 3 more");
        assert!(listeners.leave(0).is_some() && listeners.leave(0).is_none());
        assert!(listeners.of(b"b:k").is_none());
    }

    #[test]
    fn a_namespace_that_another_cache_has_or_that_overlaps_one_is_refused() {
        let listeners = Listeners::default();
        listeners.join(watch("app:users"), 1).unwrap();
        for (handle, namespace) in [(2, "app:users"), (2, "app"), (2, "app:users:old"), (1, "pages")] {
            let Err(refused) = listeners.join(watch(namespace), handle) else { panic!("{namespace}") };
            assert!(!refused.may_have_executed(), "{refused}");
        }
        listeners.leave(1);
        listeners.join(watch("app"), 2).unwrap();
    }

    #[test]
    fn all_caches_on_a_link_that_are_reported_changes_have_one_mode_which_none_of_them_asked_against() {
        use Coherence::{Broadcast, None as Nobody, PubSub};
        for (first, second, agree) in [
            (None, None, true),
            (None, Some(Broadcast), true),
            (None, Some(PubSub), false),
            (None, Some(Nobody), true),
            (Some(Broadcast), None, true),
            (Some(PubSub), None, true),
            (Some(PubSub), Some(PubSub), true),
            (Some(PubSub), Some(Broadcast), false),
            (Some(Nobody), None, true),
            (Some(Nobody), Some(PubSub), true),
            (Some(Nobody), Some(Nobody), true),
        ] {
            let listeners = Listeners::default();
            listeners.join(watch("a").coherence(first), 1).unwrap();
            let joined = listeners.join(watch("b").coherence(second), 2);
            assert_eq!(joined.is_ok(), agree, "{first:?} and {second:?}");
            (1..3).for_each(|handle| drop(listeners.leave(handle)));
            listeners.join(watch("c").coherence(second), 3).unwrap();
        }
    }

    #[test]
    fn a_cache_that_joins_a_link_that_has_found_its_mode_gets_that_one_or_is_refused() {
        let listeners = Listeners::default();
        listeners.join(watch("a"), 1).unwrap();
        listeners.fix(Coherence::PubSub);
        let refused = listeners.join(watch("b").coherence(Coherence::Broadcast), 2).err().unwrap();
        assert_eq!(refused.kind(), BackendErrorKind::Unsupported);
        listeners.join(watch("b"), 2).unwrap();
    }
}
