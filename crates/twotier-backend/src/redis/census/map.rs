//! Who owns which slot of a cluster, and where the keys of a link can lie.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    sync::Arc,
};

use parking_lot::RwLock;
use twotier_core::{LinkId, Namespace};

use crate::slot::{SLOTS, hash_tag, slot_of};

use super::view::{Node, View, ownership};

/// How many words hold a bit for each slot.
const WORDS: usize = SLOTS as usize / 64;

/// The primaries of a cluster, and who of them owns each slot: what several nodes say, put together.
///
/// A slot that two nodes claim belongs to the one of the later claim, as it does among the servers.
#[derive(Debug)]
pub(in crate::redis) struct Map {
    pub(in crate::redis) primaries: Vec<Node>,
    /// Their places among the primaries, by slot.
    owners: Box<[Option<usize>]>,
    pub(in crate::redis) ownership: u64,
}

/// A set of slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::redis) struct Slots(Box<[u64; WORDS]>);

impl Map {
    /// Puts views together, those of whom more is believed first.
    pub(in crate::redis) fn merged<'v>(views: impl Iterator<Item = &'v View>) -> Self {
        let (mut latest, mut idle): (BTreeMap<&str, &Node>, Vec<&str>) = Default::default();
        let mut claims: Vec<Option<&Node>> = vec![None; usize::from(SLOTS)];
        for (place, view) in views.enumerate() {
            for node in view.primaries() {
                let known = latest.entry(&node.id).or_insert(node);
                if known.config_epoch < node.config_epoch {
                    *known = node;
                }
                // Who owns nothing is one if the first says so: others may not know yet that it is none any more.
                if place == 0 && node.slots.is_empty() {
                    idle.push(&node.id);
                }
                for slot in node.slots.iter().cloned().flatten() {
                    let latest_one = &mut claims[usize::from(slot)];
                    if latest_one.is_none_or(|other| other.config_epoch < node.config_epoch) {
                        *latest_one = Some(node);
                    }
                }
            }
        }
        let owners: BTreeSet<&str> = claims.iter().flatten().map(|owner| &*owner.id).chain(idle).collect();
        latest.retain(|id, _| owners.contains(id));
        let primaries: Vec<Node> = latest.into_values().cloned().collect();
        let place = |owner: &Node| primaries.binary_search_by(|node| node.id.cmp(&owner.id)).ok();
        let owners: Box<[_]> = claims.iter().map(|latest| latest.and_then(place)).collect();
        let ranges = ranges(&owners).map(|(slots, owner)| (slots, &*primaries[owner].id));
        Self { ownership: ownership(ranges), owners, primaries }
    }

    /// Returns whether the same primaries, at the same addresses, own the same slots.
    pub(in crate::redis) fn is(&self, other: &Self) -> bool {
        let address = |node: &Node| (node.id.clone(), node.host.clone(), node.port, node.hostname.clone());
        self.ownership == other.ownership && self.primaries.iter().map(address).eq(other.primaries.iter().map(address))
    }

    /// Returns which of the primaries owns a slot, if any does.
    pub(in crate::redis) fn owner(&self, slot: u16) -> Option<usize> {
        *self.owners.get(usize::from(slot))?
    }

    /// Returns the slots of one of the primaries.
    pub(in crate::redis) fn slots(&self, primary: usize) -> Slots {
        (0..SLOTS).filter(|slot| self.owner(*slot) == Some(primary)).collect()
    }
}

/// Returns the longest ranges of slots with one owner each.
fn ranges(owners: &[Option<usize>]) -> impl Iterator<Item = (RangeInclusive<u16>, usize)> {
    owners
        .chunk_by(|one, next| one == next)
        .scan(0, |first, chunk| {
            let (from, length) = (*first, u16::try_from(chunk.len()).unwrap_or(SLOTS));
            *first += length;
            Some(chunk[0].map(|owner| (from..=from + (length - 1), owner)))
        })
        .flatten()
}

impl Slots {
    pub(in crate::redis) fn none() -> Self {
        Self(Box::new([0; WORDS]))
    }

    pub(in crate::redis) fn contains(&self, slot: u16) -> bool {
        self.0.get(usize::from(slot / 64)).is_some_and(|word| word & (1 << (slot % 64)) != 0)
    }

    pub(in crate::redis) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }
}

impl FromIterator<u16> for Slots {
    fn from_iter<I: IntoIterator<Item = u16>>(slots: I) -> Self {
        let mut set = Self::none();
        for slot in slots {
            if let Some(word) = set.0.get_mut(usize::from(slot / 64)) {
                *word |= 1 << (slot % 64);
            }
        }
        set
    }
}

/// Where the keys of a link can lie.
#[derive(Debug, Default)]
pub(in crate::redis) enum Place {
    /// Wherever they like: there is one server.
    #[default]
    Anywhere,
    /// In these slots, which a node of a cluster owns.
    In(RwLock<Slots>),
}

impl Place {
    /// Returns whether keys of one link lie in several slots, so that no command has several of them.
    pub(in crate::redis) fn is_in_slots(&self) -> bool {
        matches!(self, Self::In(_))
    }

    pub(in crate::redis) fn is(&self, other: &Slots) -> bool {
        matches!(self, Self::In(slots) if *slots.read() == *other)
    }

    pub(in crate::redis) fn put(&self, new: Slots) {
        if let Self::In(slots) = self {
            *slots.write() = new;
        }
    }

    /// Returns whether any key of the namespace can lie here.
    pub(in crate::redis) fn takes(&self, namespace: &Namespace) -> bool {
        match (self, hash_tag(namespace.prefix().as_bytes())) {
            (Self::Anywhere, _) => true,
            (Self::In(slots), Some(tag)) => slots.read().contains(slot_of(tag)),
            (Self::In(slots), None) => !slots.read().is_empty(),
        }
    }

    /// Returns the first of these keys that lies here, all of them of one namespace that this place
    /// [takes](Self::takes).
    pub(in crate::redis) fn first_of(&self, mut keys: impl Iterator<Item = Vec<u8>>) -> Option<Vec<u8>> {
        match self {
            Self::Anywhere => keys.next(),
            Self::In(slots) => {
                // Not held while keys are made, of which there may have to be many.
                let slots = slots.read().clone();
                keys.find(|key| slots.contains(slot_of(key)))
            }
        }
    }
}

/// The map in force, with the link of each primary.
#[derive(Debug)]
pub(in crate::redis) struct Routes {
    pub(in crate::redis) map: Arc<Map>,
    /// In the order of the primaries.
    pub(in crate::redis) links: Vec<LinkId>,
}

impl Routes {
    /// Returns the link of a slot's owner, if the slot has one.
    pub(in crate::redis) fn link(&self, slot: u16) -> Option<LinkId> {
        self.links.get(self.map.owner(slot)?).copied()
    }

    /// Returns the links of those who own any slot.
    pub(in crate::redis) fn owners(&self) -> Vec<LinkId> {
        let owns = |place: &usize| self.map.owners.contains(&Some(*place));
        (0..self.links.len()).filter(owns).map(|place| self.links[place]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(lines: &[(&str, &str, u64, &str)]) -> View {
        let line = |(id, flags, epoch, slots): &(&str, &str, u64, &str)| {
            format!("{id} 127.0.0.1:7000@17000 {flags} - 0 0 {epoch} connected {slots}\n")
        };
        View::read(&lines.iter().map(line).collect::<String>()).unwrap()
    }

    fn owner(map: &Map, slot: u16) -> Option<&str> {
        map.owner(slot).map(|place| &*map.primaries[place].id)
    }

    #[test]
    fn of_two_who_claim_a_slot_the_one_of_the_later_claim_owns_it_whoever_is_asked_first() {
        let old = view(&[("a", "myself,master", 1, "0-9"), ("b", "master", 2, "10-19"), ("c", "slave", 1, "")]);
        let new = view(&[("a", "master,fail", 1, ""), ("b", "master", 2, "10-19"), ("c", "myself,master", 3, "0-9")]);
        for views in [[&new, &old], [&old, &new]] {
            let map = Map::merged(views.into_iter());
            assert_eq!((owner(&map, 0), owner(&map, 9), owner(&map, 10)), (Some("c"), Some("c"), Some("b")));
            assert_eq!(owner(&map, 20), None);
            assert_eq!(map.ownership, new.ownership);
            assert_eq!(map.slots(map.owner(0).unwrap()), (0..=9).collect());
        }
        assert_eq!(Map::merged([&old].into_iter()).ownership, old.ownership);
        assert_ne!(old.ownership, new.ownership);
    }

    #[test]
    fn a_primary_without_slots_is_one_if_who_is_believed_most_says_so() {
        let said = view(&[("a", "master", 1, "0-16383"), ("b", "master", 0, ""), ("c", "master,handshake", 0, "")]);
        let ids = |map: &Map| map.primaries.iter().map(|node| node.id.to_string()).collect::<Vec<_>>();
        assert_eq!(ids(&Map::merged([&said].into_iter())), ["a", "b"]);
        let other = view(&[("a", "master", 1, "0-16383"), ("b", "slave", 1, "")]);
        assert_eq!(ids(&Map::merged([&other, &said].into_iter())), ["a"]);
    }

    #[test]
    fn a_place_takes_the_namespaces_of_which_a_key_can_lie_there() {
        let [plain, tagged] = ["app", "{app}"].map(|name| Namespace::new(name).unwrap());
        let place = Place::In(RwLock::new(Slots::none()));
        assert!(!place.takes(&plain) && !place.takes(&tagged) && Place::Anywhere.takes(&tagged));
        place.put([slot_of(b"{app}")].into_iter().collect());
        assert!(place.takes(&plain) && place.takes(&tagged));
        place.put([slot_of(b"{app}") ^ 1].into_iter().collect());
        assert!(place.takes(&plain) && !place.takes(&tagged));
        let keys = || (0_u32..).map(|number| format!("app:{number}").into_bytes());
        let key = place.first_of(keys()).unwrap();
        assert_eq!(slot_of(&key), slot_of(b"{app}") ^ 1);
        assert_eq!(Place::Anywhere.first_of(keys()).unwrap(), b"app:0");
    }
}
