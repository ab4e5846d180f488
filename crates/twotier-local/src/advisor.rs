//! The size advisor: how often the tier would hit if it were smaller or larger, while it runs.
//!
//! Beside the tier are miniatures of it, one for each size that is asked about: maps of the tier's own policy that hold
//! no values, fed with the keys whose hash lies below a threshold (Waldspurger, Park, Garthwaite and Ahmad, "Efficient
//! MRC construction with SHARDS", FAST 2015; Waldspurger, Saemundsson, Ahmad and Park, "Cache modeling and optimization
//! using miniature simulations", USENIX ATC 2017). A tier of `size` entries is stood for by a miniature of
//! `size * rate` entries, which is fed with `rate` of the keys. What it knows depends on how many entries it has and
//! not on the rate, so each size has a rate of its own, by which its miniature has [`ENTRIES`] entries, or as many as
//! the size itself.
//!
//! Where `max_bytes` is the bound in force it is scaled as `max_entries` is, and the rate goes by how many entries of
//! [`WEIGHT`] there is room for. Lighter ones make a miniature of more entries, heavier ones of fewer; one of fewer
//! than
//! [`FEWEST`] is not believed. A tier that is split into shards is stood for by one that is not.
//!
//! A miniature is what the tier would be of its size: an access that misses in it is put in with the life, weight and
//! epoch of the tier's copy; a copy that expired, or was flushed, reported, overwritten or cleared, is a miss. Curves
//! that leave times to live out promise hits on copies that nobody may serve (Sultan, Shakiba, Lee, Chen and Stumm,
//! "TTLs matter: Efficient cache sizing with TTL-aware miss ratio curves and working set sizes", 2024).
//!
//! Miniatures are locked one at a time, never together with a shard, and hold no user code. A step looks at one entry
//! and what its policy lets go for it. A hit of the tier that is not sampled pays one comparison of its hash.
//!
//! What the sampled ones cost is paid by the misses, each of which takes a thousand times as long as a hit: a tier that
//! goes on hitting lets the advisor rest, see [`Pace`].

use std::hash::BuildHasher;

use smol_str::SmolStr;
use twotier_core::{CurvePoint, Eviction, LinkId, Mark, SizeCurve, Timestamp};

use crate::{
    digest::Digest,
    entry::{CopyTraits, Entry, Moved, NewEntry, Origin},
    hash::KeyHasher,
    options::Share,
    policy::{Entries, Looked, Plan, Removed},
    shard::{LookupTime, judge},
    sync::{AtomicU64, Mutex, Ordering},
};

/// The sizes that are asked about, in quarters of the tier's.
const QUARTERS: [usize; 6] = [1, 2, 4, 8, 16, 32];
/// How many entries a miniature has at most.
const ENTRIES: usize = 512;
/// What an entry is taken to weigh before any was seen, as `max_bytes` is chosen: where there is room for fewer entries
/// of this weight than `max_entries`, bytes are the bound in force, and decide the rate.
const WEIGHT: usize = 2000;
/// A miniature that has room for no more than so many entries, since they are so heavy, is not believed.
const FEWEST: usize = 128;
/// The standard error, in points, of what is not known at all.
const ANYTHING: f64 = 100.0;
/// Into how many groups sampled keys fall, which are held against each other to see how far chance goes.
const GROUPS: usize = 8;

/// How many sampled accesses are followed before the advisor may have to rest: a tenth of a second's work.
const CREDIT: u64 = 1 << 20;
/// How many more each miss of the tier pays for: at most some 2 us of work for a round trip.
const PER_MISS: u64 = 16;
/// After so many misses of a tier whose advisor rests it goes on.
const MISSES_TO_WAKE: u64 = 4096;
/// With so much credit at least.
const WOKEN: u64 = 1 << 16;

/// The miniatures, and who is let to them.
#[derive(Debug)]
pub(crate) struct Advisor {
    /// Keys whose place is below this are followed; 0 while the advisor rests.
    below: AtomicU64,
    /// That while it does not rest: the threshold of the smallest size, which is the highest.
    most: u64,
    pace: Mutex<Pace>,
    sizes: Box<[Size]>,
    hasher: KeyHasher,
    began: Timestamp,
}

/// One size.
#[derive(Debug)]
struct Size {
    factor: f64,
    /// What the tier would hold.
    entries: usize,
    max_bytes: usize,
    /// Of so many keys (the second) so many are followed (the first).
    rate: (usize, usize),
    /// What its miniature holds.
    share: Share,
    eviction: Eviction,
    /// The places below it are those of its keys.
    below: u64,
    miniature: Mutex<Miniature>,
}

#[derive(Debug)]
struct Miniature {
    entries: Entries<()>,
    origin: Origin,
    samples: u64,
    /// By the key's group.
    misses: [u64; GROUPS],
    /// Whether entries had to go for their bytes though there were but a few.
    cramped: bool,
    /// What the policy let go, which is nothing: without values it only has keys.
    removed: Removed<()>,
}

/// Sees to it that the advisor's work is paid by misses.
///
/// A hit takes 30 ns, a sampled one ten times as long. Where nearly all accesses hit, which is also where a size is of
/// no interest, the advisor rests when its credit is used up, and goes on when misses come again. What was asked for
/// meanwhile takes no part in the curve.
#[derive(Debug)]
struct Pace {
    credit: u64,
    /// How much credit a sampled miss brings: it stands for all that were not sampled.
    gain: u64,
    /// The requests of the tier when the rest began.
    resting_since: Option<u64>,
    /// Requests while it rested.
    rested: u64,
    /// Misses of the tier in this rest.
    missed: u64,
}

/// Returns what decides whether a key is sampled: the bits of its hash by which neither shards (40 and up) nor the
/// table of a shard (the lowest 12 and the highest 7) nor the groups are noticed apart come first.
#[inline]
fn place(hash: u64) -> u64 {
    hash << 24
}

/// Returns the group of a key.
#[allow(clippy::cast_possible_truncation, reason = "three bits are kept")]
fn group(hash: u64) -> usize {
    (hash >> 13) as usize % GROUPS
}

impl Advisor {
    pub(crate) fn new(
        (max_entries, max_bytes): (usize, usize),
        eviction: Eviction,
        hasher: &KeyHasher,
        now: Timestamp,
    ) -> Self {
        let size = |quarters| Size::new(quarters, max_entries, max_bytes, eviction, hasher);
        let sizes: Box<[Size]> = QUARTERS.into_iter().map(size).collect();
        let most = sizes.iter().map(|size| size.below).max().unwrap_or_default();
        let gain = (u128::from(PER_MISS) << 64) / u128::from(most.max(1));
        let pace = Pace {
            credit: CREDIT,
            gain: u64::try_from(gain).unwrap_or(CREDIT),
            resting_since: None,
            rested: 0,
            missed: 0,
        };
        Self { below: AtomicU64::new(most), most, pace: Mutex::new(pace), sizes, hasher: hasher.clone(), began: now }
    }

    /// Returns whether an access to the key is followed.
    #[inline]
    pub(crate) fn samples(&self, hash: u64) -> bool {
        place(hash) < self.below.load(Ordering::Relaxed)
    }

    /// Follows an access: in every size the key is a hit, or a miss. One that hit in the tier and misses in a miniature
    /// is put in as `copy` says, which is called once at most and without a lock; one that missed in the tier is put in
    /// when the tier [keeps](Self::kept) what was fetched.
    ///
    /// `requests` counts those of the tier, when the advisor begins to rest.
    pub(crate) fn accessed(
        &self,
        hash: u64,
        lookup: LookupTime<'_>,
        hit: bool,
        copy: impl FnOnce() -> Option<(LinkId, CopyTraits)>,
        requests: impl FnOnce() -> u64,
    ) {
        let name = Name::new(&self.hasher, hash);
        let mut copy = Some(copy);
        let mut held = None;
        for size in self.sizes.iter().filter(|size| place(hash) < size.below) {
            let missed = size.miniature.lock().look(&name, lookup);
            if !missed || !hit {
                continue;
            }
            if let Some(copy) = copy.take() {
                held = copy();
            }
            if let Some((link, traits)) = held {
                let mark = Mark::new(link, lookup.links.epoch(link), lookup.now);
                let new = name.entry(mark, traits);
                size.miniature.lock().insert_absent(&name, new, size);
            }
        }
        if self.pace.lock().is_tired(hit) {
            self.below.store(0, Ordering::Relaxed);
            let requests = requests();
            self.pace.lock().resting_since = Some(requests);
        }
    }

    /// An access missed in the tier, sampled or not: ends a rest when there were enough.
    pub(crate) fn missed(&self, requests: impl FnOnce() -> u64) {
        if self.below.load(Ordering::Relaxed) != 0 {
            return;
        }
        let Some(since) = self.pace.lock().wakes() else { return };
        let requests = requests();
        // This one is followed again.
        self.pace.lock().rested += requests.saturating_sub(since).saturating_sub(1);
        self.below.store(self.most, Ordering::Relaxed);
    }

    /// The tier keeps what a read brought: so does every size in which the key was missed.
    pub(crate) fn kept(&self, hash: u64, mark: Mark, traits: CopyTraits) {
        self.each(hash, |size, name| {
            let new = name.entry(mark, traits);
            size.miniature.lock().insert_absent(name, new, size);
        });
    }

    /// The tier keeps what was written: so does every size.
    pub(crate) fn written(&self, hash: u64, mark: Mark, traits: CopyTraits) {
        self.each(hash, |size, name| {
            let new = name.entry(mark, traits);
            size.miniature.lock().insert(name, new, size);
        });
    }

    /// No tier of whatever size has the key any more: it was written, deleted, reported or invalidated.
    pub(crate) fn removed(&self, hash: u64) {
        self.each(hash, |size, name| size.miniature.lock().remove_if(name, |_| true));
    }

    /// The backend holds something else than a copy with other bytes.
    pub(crate) fn differs(&self, hash: u64, digest: Digest) {
        self.each(hash, |size, name| size.miniature.lock().remove_if(name, |entry| entry.digest != digest));
    }

    /// The tier was cleared.
    pub(crate) fn cleared(&self) {
        for size in &self.sizes {
            let empty = size.empty(&self.hasher);
            let full = size.miniature.lock().entries.replace(empty);
            drop(full);
        }
    }

    /// Returns what the miniatures say, for a tier that was asked so often.
    pub(crate) fn curve(&self, requests: u64, now: Timestamp) -> SizeCurve {
        let (rested, since) = {
            let pace = self.pace.lock();
            (pace.rested, pace.resting_since)
        };
        let rested = rested + since.map_or(0, |since| requests.saturating_sub(since));
        let followed = requests.saturating_sub(rested);
        let points = self.sizes.iter().map(|size| size.point(followed)).collect();
        SizeCurve::new(requests, followed, now.since(self.began), points)
    }

    /// Does something with every size that the key belongs to.
    fn each(&self, hash: u64, act: impl Fn(&Size, &Name)) {
        if place(hash) >= self.most {
            return;
        }
        let name = Name::new(&self.hasher, hash);
        self.sizes.iter().filter(|size| place(hash) < size.below).for_each(|size| act(size, &name));
    }
}

impl Pace {
    /// Takes the credit of one access, and returns whether it was the last.
    fn is_tired(&mut self, hit: bool) -> bool {
        if !hit {
            self.credit = self.credit.saturating_add(self.gain).min(CREDIT);
        }
        let tired = self.credit == 1;
        self.credit = self.credit.saturating_sub(1);
        tired
    }

    /// Counts a miss in a rest, and returns since when there was none if it is over.
    fn wakes(&mut self) -> Option<u64> {
        self.missed += 1;
        let since = self.resting_since.filter(|_| self.missed >= MISSES_TO_WAKE)?;
        self.resting_since = None;
        self.missed = 0;
        self.credit = self.gain.saturating_mul(MISSES_TO_WAKE).clamp(WOKEN, CREDIT);
        Some(since)
    }
}

impl Size {
    fn new(quarters: usize, max_entries: usize, max_bytes: usize, eviction: Eviction, hasher: &KeyHasher) -> Self {
        let scaled = |bound: usize| (bound / 4).saturating_mul(quarters) + bound % 4 * quarters / 4;
        let (entries, max_bytes) = (scaled(max_entries).max(1), scaled(max_bytes).max(1));
        let of = entries.min(max_bytes / WEIGHT).max(1);
        let rate @ (followed, _) = (of.min(ENTRIES), of);
        let held = scale(entries, rate).max(1);
        let bytes = scale(max_bytes, rate).max(1);
        let share =
            Share { max_entries: held, max_bytes: bytes, granted: bytes, reserved: held.min(ENTRIES), remembered: 0 };
        let below = u64::try_from(((followed as u128) << 64) / of as u128).unwrap_or(u64::MAX);
        #[allow(clippy::cast_precision_loss, reason = "at most 32")]
        let factor = quarters as f64 / 4.0;
        let miniature = Mutex::new(Miniature::new(Plan { eviction, share, hasher: hasher.clone() }.into()));
        Self { factor, entries, max_bytes, rate, share, eviction, below, miniature }
    }

    fn empty(&self, hasher: &KeyHasher) -> Entries<()> {
        Plan { eviction: self.eviction, share: self.share, hasher: hasher.clone() }.into()
    }

    /// Returns what the miniature says, for a tier that was asked so often while it was followed.
    #[allow(clippy::cast_precision_loss, reason = "counts, and a share of them")]
    fn point(&self, requests: u64) -> CurvePoint {
        let (samples, misses, bytes, cramped) = {
            let miniature = self.miniature.lock();
            (miniature.samples, miniature.misses, miniature.entries.bytes(), miniature.cramped)
        };
        let (followed, of) = self.rate;
        let rate = followed as f64 / of as f64;
        let expected = requests as f64 * rate;
        let (hit_rate, standard_error) = adjusted(expected, &misses);
        // A miniature that is as large as the size follows every key, and chance has no part in it.
        let standard_error = standard_error * (1.0 - rate).sqrt();
        let mut point = CurvePoint::default();
        point.factor = self.factor;
        point.entries = self.entries;
        point.max_bytes = self.max_bytes;
        point.bytes = scale(bytes, (of, followed)).min(self.max_bytes);
        point.samples = samples;
        point.hit_rate = hit_rate;
        point.standard_error = if cramped && rate < 1.0 { ANYTHING } else { standard_error.min(ANYTHING) };
        point
    }
}

/// Returns `number * by / of`.
fn scale(number: usize, (by, of): (usize, usize)) -> usize {
    usize::try_from(number as u128 * by as u128 / of as u128).unwrap_or(usize::MAX)
}

/// Returns the share of hits, and its standard error, both in percent.
///
/// Sampled keys are not asked for as often as so many keys are on average: whether the few that everybody asks for are
/// among them is chance. SHARDS therefore adds what is expected less what was sampled to the first bucket of its
/// histogram (section 4 of the paper, there called SHARDS-adj): keys asked for so often hit in every size. For the
/// share of hits this is to divide the misses by the samples that were *expected*.
#[allow(clippy::cast_precision_loss, reason = "counts, and a share of them")]
fn adjusted(expected: f64, misses: &[u64; GROUPS]) -> (f64, f64) {
    if expected < 1.0 {
        return (0.0, ANYTHING);
    }
    let groups = GROUPS as f64;
    let all = misses.iter().sum::<u64>() as f64;
    let squares: f64 = misses.iter().map(|group| (*group as f64 - all / groups).powi(2)).sum();
    let error = (squares * groups / (groups - 1.0)).sqrt();
    ((1.0 - all / expected).clamp(0.0, 1.0) * 100.0, error / expected * 100.0)
}

impl Miniature {
    fn new(entries: Entries<()>) -> Self {
        Self {
            entries,
            origin: Origin::default(),
            samples: 0,
            misses: [0; GROUPS],
            cramped: false,
            removed: Removed::default(),
        }
    }

    /// Counts an access, and returns whether it misses. A copy that can never be served again goes.
    fn look(&mut self, name: &Name, lookup: LookupTime<'_>) -> bool {
        let origin = self.origin;
        let looked = self.entries.look(name.hash, &name.text, |entry| judge(origin, entry, lookup, |_| ()));
        self.samples += 1;
        if matches!(looked, Looked::Hit(())) {
            return false;
        }
        if matches!(looked, Looked::Dead(_)) {
            self.remove_if(name, |_| true);
        }
        self.misses[name.group] += 1;
        true
    }

    fn insert_absent(&mut self, name: &Name, new: NewEntry<()>, size: &Size) {
        let mut there = false;
        self.remove_if(name, |_| {
            there = true;
            false
        });
        if !there {
            self.insert(name, new, size);
        }
    }

    /// Puts a copy in, unless it alone would take more than a miniature has: such a one is a miss every time.
    fn insert(&mut self, name: &Name, new: NewEntry<()>, size: &Size) {
        if new.weight > size.share.max_bytes {
            self.cramped |= self.entries.len() < FEWEST;
            self.remove_if(name, |_| true);
            return;
        }
        match self.origin.make_fit(&new) {
            Moved::Nothing => {}
            Moved::Times(by) => self.entries.shift(by),
            Moved::Outdated => drop(self.entries.replace(self.entries.plan().into())),
        }
        let pair = self.origin.pack(new);
        let done = self.entries.insert(name.hash, pair, &mut self.removed);
        self.cramped |= done.evicted_for_bytes > 0 && self.entries.len() < FEWEST;
        self.removed = Removed::default();
    }

    fn remove_if(&mut self, name: &Name, wrong: impl FnOnce(&Entry<()>) -> bool) {
        let _gone = self.entries.remove_if(name.hash, &name.text, wrong);
    }
}

/// What stands for a key: its hash as text, which lies in its entry, and the hash of that.
///
/// Two keys of one hash are taken for one. Hashed once more, the keys of a miniature are spread over its table by other
/// bits than those by which they were chosen.
struct Name {
    text: SmolStr,
    hash: u64,
    group: usize,
}

impl Name {
    fn new(hasher: &KeyHasher, hash: u64) -> Self {
        // Seven bits a byte are always text.
        let bytes: [u8; 10] =
            std::array::from_fn(|index| u8::try_from((hash >> (7 * index)) & 0x7f).unwrap_or_default());
        let text = SmolStr::new(str::from_utf8(&bytes).unwrap_or_default());
        Self { hash: hasher.hash_one(text.as_str()), text, group: group(hash) }
    }

    fn entry(&self, mark: Mark, CopyTraits { digest, life, weight }: CopyTraits) -> NewEntry<()> {
        NewEntry {
            key: self.text.clone(),
            value: (),
            digest,
            mark,
            deadline: mark.at.saturating_add(life),
            weight,
            fits: true,
        }
    }
}
