//! What one node of a cluster says of all of them: the reply to `CLUSTER NODES`.

use std::{hash::BuildHasher, ops::RangeInclusive};

use foldhash::fast::FixedState;

use crate::slot::SLOTS;

/// The nodes of a cluster, as one of them has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::redis) struct View {
    pub(in crate::redis) nodes: Vec<Node>,
    /// A digest of who owns which slot: equal where the owners are.
    pub(in crate::redis) ownership: u64,
}

/// One node of a cluster, as another has it.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::redis) struct Node {
    /// Its name, which it keeps for life.
    pub(in crate::redis) id: Box<str>,
    /// Its address; empty where the node that was asked does not know its own.
    pub(in crate::redis) host: Box<str>,
    pub(in crate::redis) port: u16,
    /// The name that it announces, if it does.
    pub(in crate::redis) hostname: Option<Box<str>>,
    pub(in crate::redis) is_primary: bool,
    /// Whether anybody finds it dead.
    pub(in crate::redis) is_failing: bool,
    /// Whether it can be spoken to: it has an address, and is a member by now.
    pub(in crate::redis) is_known: bool,
    /// The epoch of its latest claim. Of two nodes that claim a slot it belongs to the one of the later claim.
    pub(in crate::redis) config_epoch: u64,
    pub(in crate::redis) slots: Vec<RangeInclusive<u16>>,
}

/// Prints no addresses.
impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { id, is_primary, is_failing, config_epoch, slots, .. } = self;
        let parts = (id, is_primary, is_failing, config_epoch, slots);
        f.debug_tuple("Node").field(&parts).finish()
    }
}

impl View {
    /// Reads the reply, `None` when that is no such reply.
    pub(in crate::redis) fn read(reply: &str) -> Option<Self> {
        let nodes: Vec<Node> = reply.lines().filter(|line| !line.is_empty()).map(node).collect::<Option<_>>()?;
        if nodes.is_empty() {
            return None;
        }
        let owners = nodes.iter().flat_map(|node| node.slots.iter().map(|range| (range.clone(), &*node.id)));
        Some(Self { ownership: ownership(owners), nodes })
    }

    /// Returns who there is, and whether each is a primary.
    pub(in crate::redis) fn roles(&self) -> impl Iterator<Item = (&str, bool)> {
        self.nodes.iter().map(|node| (&*node.id, node.is_primary))
    }

    pub(in crate::redis) fn primaries(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.is_primary && node.is_known)
    }
}

/// Returns a digest of who owns which slots: the longest ranges there are, in any order.
pub(in crate::redis) fn ownership<'n>(owners: impl Iterator<Item = (RangeInclusive<u16>, &'n str)>) -> u64 {
    let mut owners: Vec<_> = owners.collect();
    owners.sort_unstable_by_key(|(range, _)| *range.start());
    FixedState::default().hash_one(owners)
}

/// Reads `<id> <ip:port@cport[,hostname[,…]]> <flags> <primary> <ping> <pong> <config-epoch> <link-state> <slot>…`.
fn node(line: &str) -> Option<Node> {
    let mut words = line.split(' ');
    let (id, address, flags) = (words.next()?, words.next()?, words.next()?);
    let config_epoch = words.nth(3)?.parse().ok()?;
    let _link_state = words.next()?;
    // What is migrating is in brackets: it belongs to its owner as before.
    let slots = words.filter(|word| !word.is_empty() && !word.starts_with('['));
    let slots = slots.map(range).collect::<Option<_>>()?;
    let mut names = address.split(',');
    let place = names.next()?;
    let hostname = names.next().filter(|name| !name.is_empty()).map(Box::from);
    let (host, port) = place.split('@').next()?.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let has = |flag: &str| flags.split(',').any(|other| other == flag);
    Some(Node {
        id: id.into(),
        host: host.into(),
        port,
        hostname,
        is_primary: has("master"),
        is_failing: has("fail") || has("fail?"),
        is_known: port != 0 && !has("handshake") && !has("noaddr"),
        config_epoch,
        slots,
    })
}

fn range(word: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && last < SLOTS).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLY: &str = "\
07c37dfeb235213a872192d90877d0cd55635b91 127.0.0.1:30004@31004,,tls-port=0,shard-id=6 slave e7d1 0 1426238317239 4 connected
67ed2db8d677e59ec4a4cefb06858cf2a1a89fa1 10.0.0.2:30002@31002,two.example master - 0 1426238316232 2 connected 5461-10922
292f8b365bb7edb5e285caf0b7e6ddc7265d2f4f fd00::7:30003@31003 master,fail? - 0 0 3 disconnected 10923-16000 16002-16383
e7d1eecce10fd6bb5eb35b9f99a514335d9ba9ca :30001@31001 myself,master - 0 0 1 connected 0-5460 16001 [16001->-67ed] [93-<-292f]
a7d1eecce10fd6bb5eb35b9f99a514335d9ba9cb :0@0 master,noaddr - 0 0 0 disconnected
";

    #[test]
    fn every_form_of_a_line_that_servers_write_is_read() {
        let view = View::read(REPLY).unwrap();
        let [replica, two, three, own, gone] = &view.nodes[..] else { panic!("{view:?}") };
        assert!(!replica.is_primary && replica.is_known && replica.hostname.is_none() && replica.slots.is_empty());
        assert_eq!((&*two.host, two.port, two.hostname.as_deref()), ("10.0.0.2", 30002, Some("two.example")));
        assert_eq!((&*three.host, three.port, three.is_failing), ("fd00::7", 30003, true));
        assert_eq!(three.slots, [10_923..=16_000, 16_002..=16_383]);
        assert_eq!((&*own.host, own.config_epoch, &own.slots[..]), ("", 1, &[0..=5460, 16_001..=16_001][..]));
        assert!(!gone.is_known && view.primaries().count() == 3);
        assert!(!format!("{view:?}").contains("10.0.0.2"), "addresses are not printed");
    }

    #[test]
    fn the_digest_of_owners_depends_on_them_and_on_nothing_else() {
        let view = View::read(REPLY).unwrap();
        let mut lines: Vec<&str> = REPLY.lines().collect();
        lines.reverse();
        assert_eq!(View::read(&lines.join("\n")).unwrap().ownership, view.ownership, "in another order");
        let same = REPLY.replace("fail?", "fail").replace(" 2 connected", " 9 connected").replace("[93-<-292f]", "");
        assert_eq!(View::read(&same).unwrap().ownership, view.ownership, "flags and epochs");
        let other = REPLY.replace("16001 [", "[").replace("10923-16000 16002-16383", "10923-16383");
        assert_ne!(View::read(&other).unwrap().ownership, view.ownership, "a slot moved");
    }

    #[test]
    fn what_is_no_reply_of_the_kind_is_none() {
        for reply in [
            "",
            "\n",
            "x",
            "id 1.2.3.4:1@2 master - 0 0 x connected",
            "id 1.2.3.4 master - 0 0 1 connected",
            "id 1.2.3.4:1@2 master - 0 0 1 connected 5-4",
            "id 1.2.3.4:1@2 master - 0 0 1 connected 16384",
        ] {
            assert!(View::read(reply).is_none(), "{reply}");
        }
    }
}
