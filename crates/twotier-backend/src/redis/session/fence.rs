//! Fencing off earlier links: what they still had under way must not arrive later.

use parking_lot::Mutex;

/// The most earlier links that are remembered: each is of another server, so there are never many.
const MOST: usize = 32;

/// The connections of earlier links of a handle, which may still have writes under way to their servers: in the
/// network, in a proxy, in the server's own socket.
///
/// The next link to the same server ends them there before it is used. A link to another one leaves them alone: its
/// numbers are those of strangers.
#[derive(Debug, Default)]
pub(in crate::redis) struct Fences(Mutex<Vec<Earlier>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Earlier {
    /// The server, as it names itself anew at each start; `None` where it may not be asked.
    run_id: Option<String>,
    /// The server's numbers of the connections.
    ids: Vec<i64>,
}

impl Fences {
    /// Remembers a link that is used from now on.
    pub(in crate::redis) fn remember(&self, run_id: Option<String>, ids: Vec<i64>) {
        let mut earlier = self.0.lock();
        if earlier.len() == MOST {
            earlier.remove(0);
        }
        earlier.push(Earlier { run_id, ids });
    }

    /// Returns the connections to end at this server.
    pub(super) fn at(&self, run_id: Option<&str>) -> Vec<i64> {
        let known = |earlier: &&Earlier| earlier.run_id.is_some() && earlier.run_id.as_deref() == run_id;
        self.0.lock().iter().filter(known).flat_map(|earlier| &earlier.ids).copied().collect()
    }

    /// Forgets connections that were ended.
    pub(super) fn ended(&self, ids: &[i64], run_id: Option<&str>) {
        self.0
            .lock()
            .retain(|earlier| earlier.run_id.as_deref() != run_id || !earlier.ids.iter().all(|id| ids.contains(id)));
    }

    /// Returns whether every earlier link to this server is known to have ended there. Of one to a server that cannot
    /// be identified nobody knows.
    pub(super) fn is_clear(&self, run_id: Option<&str>) -> bool {
        let other =
            |earlier: &Earlier| earlier.run_id.is_some() && run_id.is_some() && earlier.run_id.as_deref() != run_id;
        self.0.lock().iter().all(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_connections_to_the_same_run_of_a_server_are_ended_and_each_once() {
        let fences = Fences::default();
        assert!(fences.is_clear(Some("a")) && fences.is_clear(None));
        fences.remember(Some("a".to_owned()), vec![1, 2]);
        fences.remember(Some("b".to_owned()), vec![1, 3]);
        assert_eq!((fences.at(Some("a")), fences.at(Some("c")), fences.at(None)), (vec![1, 2], vec![], vec![]));
        assert!(!fences.is_clear(Some("a")) && fences.is_clear(Some("c")) && !fences.is_clear(None));
        fences.ended(&[1, 2], Some("a"));
        assert!(fences.is_clear(Some("a")) && !fences.is_clear(Some("b")));
        assert_eq!(fences.at(Some("b")), [1, 3]);
        fences.remember(None, vec![4]);
        assert!(!fences.is_clear(Some("a")), "nobody knows where that one ended");
    }
}
