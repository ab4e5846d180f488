//! A backend written outside this workspace can make everything that it returns, and read everything that it is given.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use twotier::{
    Attachment, Backend, BackendError, BackendErrorKind, BackendResult, Cache, ChangeListener, Coherence, GetReply,
    Lease, LinkId, LinkState, LinkUp, Mark, Namespace, RemainingTtl, Stored, Timestamp, Watch, Write, WriteCondition,
    async_trait,
};

use crate::support::{read, text};

/// A map that reports changes by others, and implements every method that has something to make.
#[derive(Clone, Debug, Default)]
struct OwnBackend(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    values: BTreeMap<Vec<u8>, Bytes>,
    reads: usize,
    watch: Option<Watch>,
    down: bool,
}

impl OwnBackend {
    /// Changes a value as somebody else would, and reports it.
    fn foreign(&self, key: &str, value: &'static str) {
        let mut state = self.0.lock().unwrap();
        state.values.insert(key.as_bytes().to_vec(), Bytes::from_static(value.as_bytes()));
        let Some(Watch { listener, namespace, .. }) = &state.watch else { return };
        if namespace.strip(key.as_bytes()).is_some() {
            listener.changed(key.as_bytes());
        }
    }
}

#[async_trait]
impl Backend for OwnBackend {
    async fn get(&self, key: &[u8]) -> BackendResult<Option<Stored>> {
        let mut state = self.0.lock().unwrap();
        state.reads += 1;
        if state.down {
            return Err(BackendError::new(BackendErrorKind::Unavailable, "the map is gone").not_sent());
        }
        Ok(state.values.get(key).map(|value| Stored::new(value.clone(), RemainingTtl::Persistent)))
    }

    fn start_get(&self, _key: &[u8], reply: GetReply) -> Option<GetReply> {
        Some(reply)
    }

    async fn set(&self, key: &[u8], value: Bytes, _ttl: Option<Duration>) -> BackendResult<()> {
        self.0.lock().unwrap().values.insert(key.to_vec(), value);
        Ok(())
    }

    async fn set_many(&self, writes: &[Write]) -> Vec<BackendResult<bool>> {
        let mut state = self.0.lock().unwrap();
        let write = |Write { key, value, condition, .. }: &Write| {
            let held = state.values.get(&key[..]);
            let met = match condition {
                WriteCondition::Always => true,
                WriteCondition::Absent => held.is_none(),
                WriteCondition::Holds(value) => held == Some(value),
            };
            if met {
                state.values.insert(key.to_vec(), value.clone());
            }
            Ok(met)
        };
        writes.iter().map(write).collect()
    }

    async fn delete(&self, key: &[u8]) -> BackendResult<bool> {
        Ok(self.0.lock().unwrap().values.remove(key).is_some())
    }

    async fn clear(&self, prefix: &[u8]) -> BackendResult<u64> {
        let values = &mut self.0.lock().unwrap().values;
        let before = values.len();
        values.retain(|key, _| !key.starts_with(prefix));
        Ok((before - values.len()) as u64)
    }

    async fn attach(&self, watch: Watch) -> BackendResult<Attachment> {
        assert!(watch.max_staleness > Duration::ZERO && watch.max_value_bytes > 0 && watch.coherence.is_none());
        watch.listener.link_up(LinkId::ONLY, Lease::Unlimited);
        self.0.lock().unwrap().watch = Some(watch);
        Ok(Attachment::new(Coherence::Broadcast))
    }

    fn link(&self) -> LinkState {
        let state = self.0.lock().unwrap();
        if state.down {
            return LinkState::down(
                Duration::ZERO,
                BackendError::new(BackendErrorKind::Unavailable, "the map is gone"),
            );
        }
        let up = LinkUp::new(Duration::from_secs(1)).round_trip(Duration::from_micros(1));
        LinkState::Up(up.invalidation_lag(Duration::from_micros(2)).fenced(true))
    }
}

/// What a wrapper of a backend makes of its own: a listener between the two, and a watch with it.
#[derive(Debug)]
struct Between;

impl ChangeListener for Between {
    fn mark(&self, link: LinkId) -> Mark {
        Mark::new(link, 0, Timestamp::ZERO)
    }
    fn proof_of_life(&self, _mark: Mark) {}
    fn changed(&self, _key: &[u8]) {}
    fn flushed(&self, _link: LinkId) {}
    fn link_up(&self, _link: LinkId, _lease: Lease) {}
    fn link_down(&self, _link: LinkId) {}
}

#[tokio::test]
async fn a_backend_of_another_crate_serves_a_cache_and_reports_changes_and_health() {
    let backend = OwnBackend::default();
    let cache: Cache<String> = text().build(backend.clone()).await.unwrap();
    cache.set("k", "old".to_owned()).await.unwrap();
    assert_eq!(read(&cache, "k").await.as_deref(), Some("old"));
    assert_eq!(backend.0.lock().unwrap().reads, 0, "an own write is a local hit");
    backend.foreign("t:k", "new");
    assert_eq!(read(&cache, "k").await.as_deref(), Some("new"));
    assert_eq!(backend.0.lock().unwrap().reads, 1);
    let loaded = cache.get_or_load("l", async |_| Ok::<_, std::io::Error>("loaded".to_owned())).await.unwrap();
    assert_eq!((&**loaded, backend.0.lock().unwrap().values.len()), ("loaded", 2));
    assert!(cache.health().is_healthy());
    assert!(cache.stats().to_string().contains("a change reported after 0.002 ms"), "{}", cache.stats());
    backend.0.lock().unwrap().down = true;
    assert_eq!(cache.health().to_string(), "down: the link is down: the map is gone");
}

#[tokio::test]
async fn a_wrapper_of_another_crate_can_attach_a_listener_of_its_own() {
    let watch = Watch::new(Namespace::new("n").unwrap(), Arc::new(Between));
    let watch = watch.max_staleness(Duration::from_secs(1)).coherence(Coherence::Broadcast).max_value_bytes(1 << 20);
    let attached = twotier::MemoryBackend::new().attach(watch).await.unwrap();
    assert_eq!(attached, Attachment::new(Coherence::Broadcast));
}
