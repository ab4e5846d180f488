//! A key goes from one link to another while somebody reads, writes or loads it: what is kept of that is of the link
//! behind which the key lies afterwards.

use std::sync::Arc;

use twotier_core::{ChangeListener, Lease, LinkId, Namespace, RemovalCause};

use crate::{
    load::Load,
    options::LocalOptions,
    removal::RemovalListener,
    setting::{BOUND, LIFE, Tier, both, digest, explore_under_lru, fill},
    sync::{AtomicU64, Ordering},
    tier::{LocalTier, Read},
};
use std::time::Duration;

const OLD: LinkId = LinkId::new(1);
const NEW: LinkId = LinkId::new(2);

struct Nobody;

impl RemovalListener<u64> for Nobody {
    fn is_listening(&self) -> bool {
        false
    }

    fn removed(&self, _key: &str, _value: u64, _cause: RemovalCause) {}
}

/// Where the key lies.
#[derive(Clone, Debug)]
struct Map(Arc<AtomicU64>);

impl Map {
    fn link(&self) -> LinkId {
        if self.0.load(Ordering::Acquire) == 0 { OLD } else { NEW }
    }

    /// Moves the key, as the contract of a backend has it.
    fn change(&self, tier: &Tier) {
        self.0.store(1, Ordering::Release);
        tier.flushed(OLD);
        tier.flushed(NEW);
    }
}

fn tier() -> (Map, Tier) {
    let map = Map(Arc::new(AtomicU64::new(0)));
    let asked = map.clone();
    let mut options = LocalOptions::new(10, 1_000_000, Duration::from_nanos(BOUND));
    options.shards = Some(1);
    let clock = Arc::new(crate::setting::Time::default());
    let route = Box::new(move |_key: &str| asked.link());
    let tier = LocalTier::with_listener(Namespace::new("n").unwrap(), options, clock, Box::new(Nobody), route);
    tier.link_up(OLD, Lease::Unlimited);
    tier.link_up(NEW, Lease::Unlimited);
    (map, tier)
}

/// Moves the key while it is used, and holds that no copy is left that the new link does not vouch for.
fn a_move_against(access: impl Fn(&Tier) + Copy + Send + Sync + 'static) {
    explore_under_lru(None, move || {
        let (map, tier) = tier();
        let (moving, moved) = (tier.clone(), map.clone());
        both(move || moved.change(&moving), || access(&tier));
        assert_eq!(map.link(), NEW);
        // The old link is as good as ever, and has nothing to say about the key any more.
        tier.link_down(NEW);
        assert_eq!(tier.get("k"), None, "a copy that hangs on the link of old");
    });
}

#[test]
fn a_read_while_its_key_moves_leaves_no_copy_of_the_old_link() {
    a_move_against(|tier| match tier.read("k") {
        Read::Lead(ticket, _) => _ = fill(ticket, 1),
        Read::Bypass(..) | Read::Hit(_) | Read::Join(_) => panic!("both links are up, and nobody else reads"),
    });
}

#[test]
fn a_write_while_its_key_moves_leaves_no_copy_of_the_old_link() {
    a_move_against(|tier| {
        let _kept = tier.begin_write("k", digest(1)).install(1, 1, LIFE);
    });
}

#[test]
fn the_store_of_a_load_while_its_key_moves_leaves_no_copy_of_the_old_link() {
    a_move_against(|tier| {
        let Load::Lead(load) = tier.load("k") else { panic!("nobody else loads") };
        if let Some(store) = load.begin_store(digest(1)) {
            let _kept = store.install(1, 1, LIFE);
        }
        load.finish(Ok(1));
    });
}

/// Nothing is refused for want of a route that stands: after the move the key is kept again.
#[test]
fn a_key_that_moved_is_kept_by_its_new_link() {
    explore_under_lru(None, || {
        let (map, tier) = tier();
        let moving = tier.clone();
        both(move || map.change(&moving), || tier.link_down(OLD));
        let Read::Lead(ticket, _) = tier.read("k") else { panic!("the new link is up") };
        assert!(fill(ticket, 1));
        assert_eq!(tier.get("k"), Some(1));
    });
}
