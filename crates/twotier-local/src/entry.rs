//! A copy of a value, in as few bytes as will do: a million of them are held.

use std::{cell::Cell, time::Duration};

use smol_str::SmolStr;
use twotier_core::{LinkId, Mark, Timestamp};

use crate::digest::Digest;

/// The longest a copy is kept, in milliseconds: 12 days. What lives longer in the backend is read again then.
const LONGEST: u64 = 1 << 30;
/// When so many milliseconds have passed since the origin, it is moved: what is left of a `u32` covers `LONGEST`.
const FARTHEST: u64 = 1 << 31;
const NANOS: u64 = 1_000_000;

/// So many bits are the number of a link.
pub(crate) const LINK_BITS: u32 = 10;
/// How many epochs are given out before every link that is up has a new one, so that those of all of them lie close
/// together.
pub(crate) const WINDOW: u64 = 1 << 20;
/// The highest bits of `Entry::stamp` are its link, the others its epoch.
const EPOCH_BITS: u32 = u32::BITS - LINK_BITS;
/// How far epochs may lie behind a new origin: further than those of links that are up do.
const BEHIND: u64 = 1 << (EPOCH_BITS - 1);
const _: () = assert!(BEHIND >= 2 * WINDOW, "a renewal takes two epochs for each link");

/// The lowest bits of `Entry::packed` are its weight, the others its mark.
const WEIGHT_BITS: u32 = 30;
/// The heaviest entry that can be kept: just under 1 GiB.
pub(crate) const HEAVIEST: usize = (1 << WEIGHT_BITS) - 1;
/// What a mark counts up to.
pub(crate) const MARKED: u8 = 3;

/// A copy as it comes in, with all that would need an allocation made beforehand.
#[derive(Debug)]
pub(crate) struct NewEntry<T> {
    pub(crate) key: SmolStr,
    pub(crate) value: T,
    pub(crate) digest: Digest,
    /// From before the command that fetched the value was sent.
    pub(crate) mark: Mark,
    pub(crate) deadline: Timestamp,
    pub(crate) weight: usize,
    /// Whether there is room for it.
    pub(crate) fits: bool,
}

impl<T> NewEntry<T> {
    /// Has it live no longer than that, if that is anything.
    pub(crate) fn until(mut self, latest: Option<Timestamp>) -> Self {
        self.deadline = latest.map_or(self.deadline, |latest| latest.min(self.deadline));
        self
    }
}

/// What is known of a copy in the tier, by which a smaller tier would have put it in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CopyTraits {
    pub(crate) digest: Digest,
    pub(crate) life: Duration,
    pub(crate) weight: usize,
}

impl CopyTraits {
    pub(crate) fn of<T>(new: &NewEntry<T>) -> Self {
        Self { digest: new.digest, life: new.deadline.since(new.mark.at), weight: new.weight }
    }
}

/// A copy as it is kept. Times and epoch are relative to the shard's [`Origin`].
#[derive(Debug)]
pub(crate) struct Entry<T> {
    pub(crate) value: T,
    pub(crate) digest: Digest,
    stamp: u32,
    fetched_at: u32,
    /// Changed in its place where it is found, by whoever has locked the shard.
    deadline: Cell<u32>,
    packed: u32,
}

impl<T> Entry<T> {
    /// Returns over which link it came.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "the highest bits are fewer than 16")]
    pub(crate) fn link(&self) -> LinkId {
        LinkId::new((self.stamp >> EPOCH_BITS) as u16)
    }

    #[inline]
    pub(crate) fn weight(&self) -> usize {
        (self.packed & ((1 << WEIGHT_BITS) - 1)) as usize
    }

    /// Returns how often the entry was hit since its policy last set the mark, up to [`MARKED`].
    #[inline]
    pub(crate) fn mark(&self) -> u8 {
        (self.packed >> WEIGHT_BITS) as u8
    }

    #[inline]
    pub(crate) fn set_mark(&mut self, mark: u8) {
        self.packed = (self.packed & ((1 << WEIGHT_BITS) - 1)) | (u32::from(mark) << WEIGHT_BITS);
    }

    /// Counts a hit in the mark. An entry marked already is not written to, so that its cache line stays shared.
    #[inline]
    pub(crate) fn bump(&mut self) {
        let mark = self.mark();
        if mark < MARKED {
            self.set_mark(mark + 1);
        }
    }

    /// Returns whether a copy of this age is past a soft life of which `shortest` is nine tenths: of that up to a tenth
    /// is taken, always the same for the same bytes, so that copies made together do not reach it together.
    #[cold]
    pub(crate) fn is_past_soft_life(&self, age: u64, shortest: u64) -> bool {
        age >= shortest.saturating_add(shortest / 9 / 256 * u64::from(self.digest.byte()))
    }

    /// Keeps the entry's times where they are while the origin moves. Those before the new origin become the origin,
    /// which is long past.
    fn shift(&mut self, by: u32) {
        self.fetched_at = self.fetched_at.saturating_sub(by);
        self.deadline.set(self.deadline.get().saturating_sub(by));
    }
}

/// What the epochs and times of a shard's entries are counted from, so that 32 bits do for each and none ever wraps.
///
/// Times are rounded down to the millisecond: a copy may end that much early, and never late.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Origin {
    epoch: u64,
    /// In milliseconds.
    time: u64,
}

/// What became of the entries that were there when the origin had to be moved.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    Nothing,
    /// Their times must be shifted by so much.
    Times(Shift),
    /// All of them are outdated.
    Outdated,
}

/// By how much an origin was moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shift(u32);

impl Shift {
    pub(crate) fn apply<T>(self, entry: &mut Entry<T>) {
        entry.shift(self.0);
    }
}

impl Origin {
    #[inline]
    pub(crate) fn epoch<T>(self, entry: &Entry<T>) -> u64 {
        self.epoch + u64::from(entry.stamp & ((1 << EPOCH_BITS) - 1))
    }

    #[inline]
    pub(crate) fn deadline<T>(self, entry: &Entry<T>) -> Timestamp {
        self.timestamp(entry.deadline.get())
    }

    #[inline]
    pub(crate) fn fetched_at<T>(self, entry: &Entry<T>) -> Timestamp {
        self.timestamp(entry.fetched_at)
    }

    /// Sets until when an entry lives. It is kept for no longer than any other.
    pub(crate) fn set_deadline<T>(self, entry: &Entry<T>, deadline: Timestamp) {
        let offset = millis(deadline).saturating_sub(self.time).min(u64::from(entry.fetched_at) + LONGEST);
        entry.deadline.set(u32::try_from(offset).unwrap_or(u32::MAX));
    }

    /// Moves the origin where the epoch or the deadline of a new entry would not fit.
    pub(crate) fn make_fit<T>(&mut self, new: &NewEntry<T>) -> Moved {
        let Mark { epoch, at, .. } = new.mark;
        if epoch.checked_sub(self.epoch).is_none_or(|ahead| ahead >> EPOCH_BITS > 0) {
            // All others are from before, or will be before long: within so many epochs every link has a new one.
            *self = Self { epoch: epoch.saturating_sub(BEHIND), time: millis(at) };
            return Moved::Outdated;
        }
        let passed = millis(at).saturating_sub(self.time);
        if passed <= FARTHEST {
            return Moved::Nothing;
        }
        // Entries fetched before the new origin are past their deadlines.
        let by = passed - LONGEST;
        self.time += by;
        Moved::Times(Shift(u32::try_from(by).unwrap_or(u32::MAX)))
    }

    /// Makes an entry. The origin must [fit](Self::make_fit).
    pub(crate) fn pack<T>(self, new: NewEntry<T>) -> (SmolStr, Entry<T>) {
        let Mark { link, epoch, at, .. } = new.mark;
        let fetched_at = millis(at).saturating_sub(self.time);
        let deadline = millis(new.deadline).saturating_sub(self.time).min(fetched_at + LONGEST);
        let fits = |number: u64| u32::try_from(number).expect("the origin was moved to make it fit");
        let weight = u32::try_from(new.weight.min(HEAVIEST)).expect("the heaviest is far below 2^32");
        let entry = Entry {
            value: new.value,
            digest: new.digest,
            stamp: u32::from(link.number()) << EPOCH_BITS | fits(epoch - self.epoch),
            fetched_at: fits(fetched_at),
            deadline: Cell::new(fits(deadline)),
            packed: weight,
        };
        (new.key, entry)
    }

    #[inline]
    fn timestamp(self, offset: u32) -> Timestamp {
        Timestamp::from_nanos((self.time + u64::from(offset)) * NANOS)
    }
}

fn millis(time: Timestamp) -> u64 {
    time.as_nanos() / NANOS
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const DAY: u64 = 24 * 60 * 60;

    fn new(epoch: u64, at: Timestamp, life: Duration) -> NewEntry<()> {
        let deadline = at.saturating_add(life);
        NewEntry {
            key: "k".into(),
            value: (),
            digest: Digest::ABSENT,
            mark: Mark::new(LinkId::ONLY, epoch, at),
            deadline,
            weight: 7,
            fits: true,
        }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::ZERO.saturating_add(Duration::from_secs(seconds))
    }

    #[test]
    fn an_entry_is_32_bytes_beside_nothing_of_its_value_but_a_pointer() {
        assert_eq!(size_of::<(SmolStr, Entry<Box<u64>>)>(), 24 + 32);
    }

    #[test]
    fn weight_and_mark_do_not_disturb_each_other() {
        let heavy = NewEntry { weight: HEAVIEST, ..new(1, at(0), Duration::ZERO) };
        let mut entry = Origin::default().pack(heavy).1;
        for mark in [1, 2, 3, 3] {
            entry.bump();
            assert_eq!((entry.mark(), entry.weight()), (mark, HEAVIEST));
        }
        entry.set_mark(0);
        assert_eq!((entry.mark(), entry.weight()), (0, HEAVIEST));
    }

    #[test]
    fn times_survive_a_move_of_the_origin_and_no_copy_outlives_its_deadline() {
        let mut origin = Origin::default();
        let mut entries: Vec<(Entry<()>, Timestamp)> = Vec::new();
        for day in (0..4000).step_by(5) {
            let (now, life) = (at(day * DAY), Duration::from_secs(10 * DAY));
            let incoming = new(1, now, life);
            match origin.make_fit(&incoming) {
                Moved::Nothing => {}
                Moved::Times(by) => entries.iter_mut().for_each(|(entry, _)| by.apply(entry)),
                Moved::Outdated => panic!("the epoch fits"),
            }
            entries.push((origin.pack(incoming).1, now));
            for (entry, fetched) in &entries {
                let (real, kept) = (fetched.saturating_add(life), origin.deadline(entry));
                if real > now {
                    assert_eq!((kept, origin.fetched_at(entry)), (real, *fetched), "day {day}");
                } else {
                    assert!(kept <= now, "day {day}: served after its deadline");
                }
            }
        }
    }

    #[test]
    fn a_life_of_a_century_is_cut_short_and_never_wraps() {
        let mut origin = Origin::default();
        let incoming = new(1, at(20 * DAY), Duration::from_secs(36_500 * DAY));
        assert_eq!(origin.make_fit(&incoming), Moved::Nothing);
        let entry = origin.pack(incoming).1;
        assert_eq!(origin.deadline(&entry), at(20 * DAY).saturating_add(Duration::from_millis(LONGEST)));
    }

    #[test]
    fn epochs_never_alias() {
        let mut origin = Origin::default();
        let entry = origin.pack(new(1, at(0), Duration::from_secs(1))).1;
        let far = 1 + (1 << 32);
        assert_ne!(origin.epoch(&entry), far);
        let incoming = new(far, at(0), Duration::from_secs(1));
        assert_eq!(origin.make_fit(&incoming), Moved::Outdated);
        assert_eq!(origin.epoch(&origin.pack(incoming).1), far);
    }

    #[test]
    fn links_whose_epochs_lie_apart_share_a_shard_and_link_and_epoch_do_not_disturb_each_other() {
        let mut origin = Origin::default();
        let far = 1 + (1 << 40);
        let of = |link, epoch| {
            let mark = Mark::new(LinkId::new(link), epoch, at(0));
            NewEntry { mark, ..new(epoch, at(0), Duration::from_secs(1)) }
        };
        assert_eq!(origin.make_fit(&of(1023, far)), Moved::Outdated);
        for (link, epoch) in [(1023, far), (0, far - WINDOW), (512, far + WINDOW)] {
            let incoming = of(link, epoch);
            assert_eq!(origin.make_fit(&incoming), Moved::Nothing, "link {link}");
            let entry = origin.pack(incoming).1;
            assert_eq!((entry.link(), origin.epoch(&entry)), (LinkId::new(link), epoch));
        }
    }
}
