//! The versions of one key: the last few thousand of them, in a ring that readers look into without a lock.

use std::{
    fmt::Write,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
};

use super::{Change, WriteOutcome, event::HistoryTime};

/// How many versions are remembered. Staleness is looked for among these, so a key must not be written more often than
/// this within a few bounds.
const REMEMBERED: usize = 4096;
/// A version that may have been executed, as the time of its acknowledgement.
const UNKNOWN: u64 = u64::MAX;
/// A version that was not sent, as the time of its acknowledgement.
const NOT_SENT: u64 = u64::MAX - 1;

/// One key.
pub(super) struct Key {
    owner: Option<usize>,
    origin: bool,
    issued: AtomicU64,
    acknowledged: AtomicU64,
    ring: Box<[Slot]>,
}

/// One version. The number is zero while the slot is being changed.
#[derive(Default)]
struct Slot {
    version: AtomicU64,
    began: AtomicU64,
    /// When it was acknowledged, or why it was not.
    acknowledged: AtomicU64,
    absence: AtomicU64,
    /// Whether a read returned it before it was acknowledged.
    seen: AtomicBool,
}

/// A copy of a slot.
#[derive(Clone, Copy)]
struct Version {
    began: HistoryTime,
    acknowledged: Option<HistoryTime>,
    outcome: WriteOutcome,
    change: Change,
}

impl Key {
    pub(super) fn new(owner: Option<usize>) -> Self {
        Self {
            owner,
            origin: false,
            issued: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            ring: (0..REMEMBERED).map(|_| Slot::default()).collect(),
        }
    }

    pub(super) fn owner(&self) -> Option<usize> {
        self.owner
    }

    pub(super) fn set_origin(&mut self) {
        self.origin = true;
    }

    pub(super) fn has_origin(&self) -> bool {
        self.origin
    }

    /// Returns the last version that was issued.
    pub(super) fn issued(&self) -> u64 {
        self.issued.load(SeqCst)
    }

    /// Returns the last version that was acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(SeqCst)
    }

    pub(super) fn issue(&self, change: Change, at: HistoryTime) -> u64 {
        let version = self.issued() + 1;
        let slot = self.slot(version);
        slot.version.store(0, SeqCst);
        slot.began.store(at.as_nanos(), SeqCst);
        slot.acknowledged.store(UNKNOWN, SeqCst);
        slot.seen.store(false, SeqCst);
        slot.absence.store(u64::from(change == Change::Absence), SeqCst);
        slot.version.store(version, SeqCst);
        self.issued.store(version, SeqCst);
        version
    }

    pub(super) fn acknowledge(&self, version: u64, at: HistoryTime) {
        self.slot(version).acknowledged.store(at.as_nanos(), SeqCst);
        self.acknowledged.fetch_max(version, SeqCst);
    }

    /// Ends a version that was not sent, and returns whether somebody has seen it all the same.
    pub(super) fn not_sent(&self, version: u64) -> bool {
        let slot = self.slot(version);
        slot.acknowledged.store(NOT_SENT, SeqCst);
        // Stored first, then looked: of this and a reader in `see`, at least one finds the other.
        slot.seen.load(SeqCst)
    }

    /// Notes that a read returned a version, and returns how its write ended as far as that is known.
    pub(super) fn see(&self, version: u64) -> WriteOutcome {
        let outcome = |version| self.version(version).map_or(WriteOutcome::Acknowledged, |version| version.outcome);
        if outcome(version) == WriteOutcome::Acknowledged {
            return WriteOutcome::Acknowledged;
        }
        self.slot(version).seen.store(true, SeqCst);
        outcome(version)
    }

    /// Returns how the write of a version ended, as far as that is known and remembered.
    pub(super) fn outcome(&self, version: u64) -> Option<WriteOutcome> {
        self.version(version).map(|version| version.outcome)
    }

    /// Returns what a version is, `None` when it is not remembered.
    pub(super) fn change(&self, version: u64) -> Option<Change> {
        self.version(version).map(|version| version.change)
    }

    /// Returns when a version was issued, `None` when it is not remembered.
    pub(super) fn began(&self, version: u64) -> Option<HistoryTime> {
        self.version(version).map(|version| version.began)
    }

    /// Returns when a version was acknowledged, if it was.
    pub(super) fn acknowledged_at(&self, version: u64) -> Option<HistoryTime> {
        self.version(version)?.acknowledged
    }

    /// Returns when the next acknowledged version was acknowledged: a lower bound, if that is long forgotten.
    pub(super) fn overwritten(&self, version: u64) -> Option<HistoryTime> {
        let last = self.acknowledged();
        (self.first_remembered().max(version + 1)..=last).find_map(|next| self.acknowledged_at(next))
    }

    /// Returns the deletions from this version on, acknowledged or not, but for those that were not sent.
    pub(super) fn absences_from(&self, version: u64) -> impl Iterator<Item = u64> {
        let deletes = |version: Version| version.change == Change::Absence && version.outcome != WriteOutcome::NotSent;
        (self.first_remembered().max(version)..=self.issued())
            .filter(move |&next| self.version(next).is_some_and(deletes))
    }

    /// Returns whether the last deletion before this version failed though it may have been executed: an absence that
    /// is read after this version is then its work.
    pub(super) fn is_undone_by_deletion(&self, version: u64) -> bool {
        let deletes = |version: &Version| version.change == Change::Absence && version.outcome != WriteOutcome::NotSent;
        let mut before = (self.first_remembered()..version).rev().filter_map(|earlier| self.version(earlier));
        before.find(deletes).is_some_and(|deletion| deletion.outcome == WriteOutcome::Unknown)
    }

    /// Returns the last version after which the key may have been absent: a deletion, or one that may have been lost.
    /// `None` when the key was never written.
    pub(super) fn last_absence(&self, may_be_lost: impl Fn(HistoryTime) -> bool) -> Option<u64> {
        let versions = (self.first_remembered()..=self.issued()).rev();
        let sent = |version: &Version| version.outcome != WriteOutcome::NotSent;
        let absence =
            |version: &Version| sent(version) && (version.change == Change::Absence || may_be_lost(version.began));
        let last = versions.into_iter().find(|&number| self.version(number).as_ref().is_some_and(absence));
        match last {
            Some(version) => Some(version),
            // Before the first version every key is absent.
            None if self.issued() > 0 => Some(self.first_remembered() - 1),
            None => None,
        }
    }

    /// Describes the versions around a time.
    pub(super) fn story(&self, at: HistoryTime) -> String {
        let mut text = String::new();
        let numbers = self.first_remembered()..=self.issued();
        let around = numbers.clone().find(|&number| self.began(number).is_some_and(|began| began > at));
        let around = around.unwrap_or_else(|| self.issued() + 1);
        for number in numbers.filter(|number| (around.saturating_sub(10)..around + 3).contains(number)) {
            let Some(Version { began, acknowledged, outcome, change }) = self.version(number) else { continue };
            let ended = match (acknowledged, outcome) {
                (Some(at), _) => format!("acknowledged {at}"),
                (None, WriteOutcome::NotSent) => "not sent".to_owned(),
                (None, _) => "never acknowledged".to_owned(),
            };
            let _ = writeln!(text, "  v{number} {change:?}: begun {began}, {ended}");
        }
        text
    }

    fn first_remembered(&self) -> u64 {
        // One less than fit: the slot of the next version may be changing.
        (self.issued() + 2).saturating_sub(REMEMBERED as u64).max(1)
    }

    fn version(&self, version: u64) -> Option<Version> {
        let slot = self.slot(version);
        if version == 0 || slot.version.load(SeqCst) != version {
            return None;
        }
        let (began, acknowledged) = (slot.began.load(SeqCst), slot.acknowledged.load(SeqCst));
        let change = if slot.absence.load(SeqCst) == 1 { Change::Absence } else { Change::Value };
        let (outcome, acknowledged) = match acknowledged {
            UNKNOWN => (WriteOutcome::Unknown, None),
            NOT_SENT => (WriteOutcome::NotSent, None),
            at => (WriteOutcome::Acknowledged, Some(HistoryTime::from_nanos(at))),
        };
        let began = HistoryTime::from_nanos(began);
        (slot.version.load(SeqCst) == version).then_some(Version { began, acknowledged, outcome, change })
    }

    #[allow(clippy::cast_possible_truncation, reason = "the remainder is small")]
    fn slot(&self, version: u64) -> &Slot {
        &self.ring[(version % REMEMBERED as u64) as usize]
    }
}
