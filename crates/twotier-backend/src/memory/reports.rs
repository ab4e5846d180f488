//! Who is notified of changes, and how.
//!
//! All reports go through [`Subscription`], one at a time for each listener, outside the lock of the store and before
//! the call that made the change returns, unless a test has scripted the link.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use twotier_core::{ChangeListener, Lease, LinkId, Namespace};

use super::script::{Report, Script};

/// One client of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HandleId(u64);

/// The listeners of one store.
#[derive(Default)]
pub(super) struct Reports {
    next_id: AtomicU64,
    /// The namespace of each cache, also of those that asked for no reports.
    namespaces: Mutex<Vec<(HandleId, Namespace)>>,
    subscriptions: RwLock<Vec<Arc<Subscription>>>,
}

/// One listener and what it is registered for.
struct Subscription {
    owner: HandleId,
    namespace: Namespace,
    /// `None` once the link is down. Calls are made under this lock, so none comes after `link_down`.
    listener: Mutex<Option<Arc<dyn ChangeListener>>>,
    /// Takes the reports instead, and the listener with them, when a test has the link in its hands.
    script: Option<Arc<Script>>,
}

impl Reports {
    pub(super) fn new_handle(&self) -> HandleId {
        HandleId(self.next_id.fetch_add(1, Ordering::Relaxed))
    }

    /// Gives a handle its namespace, or returns the one that another handle has and that overlaps it.
    pub(super) fn reserve(&self, owner: HandleId, namespace: &Namespace) -> Result<(), Namespace> {
        let mut reserved = self.namespaces.lock();
        if let Some((_, other)) = reserved.iter().find(|(_, other)| namespace.overlaps(other)) {
            return Err(other.clone());
        }
        reserved.push((owner, namespace.clone()));
        Ok(())
    }

    /// Registers a listener, then notifies it that the link is up: it misses nothing that happens after that.
    pub(super) fn add(
        &self,
        owner: HandleId,
        namespace: Namespace,
        listener: Arc<dyn ChangeListener>,
        script: Option<Arc<Script>>,
    ) {
        if let Some(script) = script {
            let subscription =
                Subscription { owner, namespace: namespace.clone(), listener: Mutex::default(), script: Some(script) };
            let subscription = Arc::new(subscription);
            self.subscriptions.write().push(Arc::clone(&subscription));
            if let Some(script) = &subscription.script {
                script.attach(namespace, listener);
            }
            return;
        }
        let subscription =
            Arc::new(Subscription { owner, namespace, listener: Mutex::new(Some(listener)), script: None });
        // Held until the link is up: a change that finds the subscription waits to be reported after it.
        let slot = subscription.listener.lock();
        self.subscriptions.write().push(Arc::clone(&subscription));
        if let Some(listener) = &*slot {
            listener.link_up(LinkId::ONLY, Lease::Unlimited);
        }
    }

    /// Tells the listener of a handle, if there is one, that the link is down, and returns it to be dropped.
    pub(super) fn remove(&self, owner: HandleId) -> Option<Arc<dyn ChangeListener>> {
        self.namespaces.lock().retain(|(held_by, _)| *held_by != owner);
        let subscription = {
            let mut subscriptions = self.subscriptions.write();
            let index = subscriptions.iter().position(|subscription| subscription.owner == owner)?;
            subscriptions.swap_remove(index)
        };
        if let Some(script) = &subscription.script {
            return script.detach();
        }
        let mut slot = subscription.listener.lock();
        let listener = slot.take()?;
        listener.link_down(LinkId::ONLY);
        Some(listener)
    }

    /// Reports changed keys to everyone but the handle that changed them. Call it after the change was made: a listener
    /// that comes between the two knows nothing from before.
    pub(super) fn changed(&self, by: HandleId, keys: &[Bytes]) {
        if keys.is_empty() {
            return;
        }
        for subscription in self.others(Some(by)) {
            subscription.changed(keys);
        }
    }

    /// Reports changed keys to everyone, as a change that no client made.
    pub(super) fn changed_by_nobody(&self, keys: &[Bytes]) {
        if keys.is_empty() {
            return;
        }
        for subscription in self.others(None) {
            subscription.changed(keys);
        }
    }

    /// Reports to everyone that everything may have changed.
    pub(super) fn flushed(&self) {
        for subscription in self.others(None) {
            subscription.flushed();
        }
    }

    /// A copy of the list: listeners are called outside its lock.
    fn others(&self, but: Option<HandleId>) -> Vec<Arc<Subscription>> {
        let subscriptions = self.subscriptions.read();
        subscriptions.iter().filter(|subscription| Some(subscription.owner) != but).map(Arc::clone).collect()
    }
}

impl Subscription {
    fn flushed(&self) {
        match &self.script {
            Some(script) => script.report(Report::Everything),
            None => self.tell(|listener| listener.flushed(LinkId::ONLY)),
        }
    }

    fn changed(&self, keys: &[Bytes]) {
        if let Some(script) = &self.script {
            return script.report(Report::Keys(keys.to_vec()));
        }
        self.tell(|listener| {
            for key in keys.iter().filter(|key| self.namespace.strip(key).is_some()) {
                listener.changed(key);
            }
        });
    }

    fn tell(&self, tell: impl FnOnce(&dyn ChangeListener)) {
        if let Some(listener) = &*self.listener.lock() {
            tell(&**listener);
        }
    }
}
