//! A short queue in one word.

use std::fmt;

/// Who or what an item of a [`Queue`] is: a request waiting for the server, or a message on its way to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// The read of a getter, or its reply.
    Read(usize),
    /// The command of a writer, or its reply.
    Write(usize),
    /// A request of the heartbeat, or its reply.
    Beat,
    /// The key changed.
    Push,
    /// Everything changed.
    Null,
}

impl Item {
    fn code(self) -> u64 {
        match self {
            Self::Read(getter) => 1 + getter as u64,
            Self::Write(writer) => 5 + writer as u64,
            Self::Beat => 9,
            Self::Push => 10,
            Self::Null => 11,
        }
    }

    fn from_code(code: u64) -> Option<Self> {
        Some(match code {
            1..=4 => Self::Read(usize::try_from(code - 1).ok()?),
            5..=8 => Self::Write(usize::try_from(code - 5).ok()?),
            9 => Self::Beat,
            10 => Self::Push,
            11 => Self::Null,
            _ => return None,
        })
    }
}

/// At most sixteen items, the first in the lowest four bits. No item is 0, so the length needs no field of its own.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Queue(u64);

impl Queue {
    pub(super) fn bits(self) -> u64 {
        self.0
    }

    pub(super) fn len(self) -> u32 {
        (u64::BITS - self.0.leading_zeros()).div_ceil(4)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn push(&mut self, item: Item) {
        let length = self.len();
        assert!(length < 16, "a configuration small enough to explore fits its queues");
        self.0 |= item.code() << (4 * length);
    }

    pub(super) fn first(self) -> Option<Item> {
        Item::from_code(self.0 & 15)
    }

    pub(super) fn pop(&mut self) -> Option<Item> {
        let first = self.first();
        self.0 >>= 4;
        first
    }

    pub(super) fn iter(self) -> impl Iterator<Item = Item> {
        (0..self.len()).filter_map(move |at| Item::from_code(self.0 >> (4 * at) & 15))
    }

    pub(super) fn contains(self, item: Item) -> bool {
        self.iter().any(|held| held == item)
    }

    /// Takes an item out of the middle, and returns where it was.
    pub(super) fn remove(&mut self, item: Item) -> Option<u32> {
        let at = (0..self.len()).find(|at| self.0 >> (4 * at) & 15 == item.code())?;
        let before = self.0 & ((1 << (4 * at)) - 1);
        // Two shifts: one by 64 would be too far.
        let after = self.0 >> (4 * at) >> 4;
        self.0 = before | after << (4 * at);
        Some(at)
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_leave_in_order_and_one_may_leave_from_the_middle() {
        let mut queue = Queue::default();
        let items = [Item::Read(0), Item::Push, Item::Write(3), Item::Null, Item::Beat];
        for item in items {
            queue.push(item);
        }
        assert_eq!(queue.len(), 5);
        assert_eq!(queue.remove(Item::Write(3)), Some(2));
        assert_eq!(queue.remove(Item::Write(3)), None);
        let left: Vec<Item> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(left, [Item::Read(0), Item::Push, Item::Null, Item::Beat]);
        assert!(queue.is_empty());
    }

    #[test]
    fn the_last_of_sixteen_may_leave() {
        let mut queue = Queue::default();
        for _ in 0..15 {
            queue.push(Item::Push);
        }
        queue.push(Item::Null);
        assert_eq!(queue.remove(Item::Null), Some(15));
        assert_eq!(queue.len(), 15);
    }
}
