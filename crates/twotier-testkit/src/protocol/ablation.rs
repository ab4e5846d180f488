//! The rules that can be left out, one by one, to see that each is needed and that the model would notice.

/// A rule of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Rule {
    /// Of own writes of one key that overlap, none installs. Without it each may.
    OverlapInstallsNothing,
    /// As above. Without it the one that was registered last may.
    LastRegisteredMayNotInstall,
    /// A push takes away the right of a write to install, also when it comes before the acknowledgement.
    PushKillsWrite,
    /// A write installs only in the epoch it was registered in.
    WriteChecksEpoch,
    /// Tracking is in broadcast mode. Without it the server remembers the keys this connection read, once.
    Broadcast,
    /// No fill inserts while an own write of the key is pending.
    PendingGate,
    /// The entry goes when a write is registered. Without it the old one is served until the write ends.
    WriteEvictsAtRegistration,
    /// The end of a write kills reads that began during it.
    WriteKillsAtEnd,
    /// A refused fill evicts an entry with other bytes.
    RefusedFillEvicts,
    /// A refused fill takes away the right of a pending write to install other bytes.
    RefusedFillKillsWrite,
    /// After a refused fill the read that is registered in its place inserts the same bytes or nothing.
    RefusedFillBindsFlight,
    /// A read that began while the link was down ends as a refused fill. Without it its answer leaves no trace.
    BypassEndsAsRefused,
    /// While the namespace is being cleared nothing is inserted. Without it the copies only go before and after.
    ClearGatesFills,
    /// A dropped operation takes its registration with it.
    DropGuard,
    /// Only live reads are joined.
    JoinOnlyLive,
    /// Whoever joined a read while it was live is given its answer, also when it was killed or its answer refused
    /// since. Without it they look again, and one of them is served for each round trip.
    JoinersStay,
    /// Whoever joins a bound read takes the bytes it is bound to, or looks again.
    JoinersOfBoundAreBound,
    /// A read that is bound binds only those who began after that. Without it, everyone who waits for it.
    EarlierJoinersAreFree,
    /// A read that has been under way for longer than the staleness bound is not joined but replaced.
    JoinOnlyYoung,
    /// Only the registered read inserts.
    OnlyRegisteredInserts,
    /// A read inserts only in the epoch it was registered in.
    FillChecksEpoch,
    /// The epoch goes up only after tracking is on and a fence was answered.
    TrackingBeforeEpoch,
    /// What the old connection wrote is foreign to the new one.
    ZombieIsForeign,
    /// A write that was not queued by its deadline is never queued.
    UnsentStaysUnsent,
    /// Writes of one key are queued in the order in which they are registered, the stores of loaded values among them.
    QueuedInCallOrder,
    /// A new link ends the old connection at the server before it is published.
    NewLinkEndsTheOld,
    /// A lease counts from before its request was sent. Without it, from the receipt of the reply.
    LeaseFromMark,
    /// A lease needs a second reply. Without it the first is enough.
    LeaseNeedsSecondReply,
    /// A loaded value is stored only if the key is absent.
    StoreIsConditional,
    /// A push kills the load.
    PushKillsLoad,
    /// A load is stored and joined only in the epoch it was registered in.
    LoadChecksEpoch,
    /// The begin of an own write kills the load.
    WriteBeginKillsLoad,
    /// The end of an own write kills the load.
    WriteEndKillsLoad,
    /// No loaded value is stored while an own write of the key is pending.
    StoreChecksPending,
    /// Only live loads are joined.
    JoinOnlyLiveLoads,
    /// A read that brings something else than the load saw kills the load.
    LoadBoundToSeen,
    /// A value that the leader of a load finds in the backend is handed on only while the load is live: else those who
    /// joined look for themselves. What was loaded is handed on all the same.
    FoundIsHandedOnByLiveLoads,
    /// A loaded value that is returned without being stored takes the entry with it, and the right of the registered
    /// read and load to be kept and joined: they may be older.
    UnstoredLoadForgets,
}

/// A set of [`Rule`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules(u64);

impl Rules {
    /// No rule.
    pub const NONE: Self = Self(0);

    /// Just this rule.
    #[must_use]
    pub const fn only(rule: Rule) -> Self {
        Self(1 << rule as u64)
    }

    /// These and another.
    #[must_use]
    pub const fn and(self, rule: Rule) -> Self {
        Self(self.0 | 1 << rule as u64)
    }

    /// Whether the rule is among them.
    #[must_use]
    pub const fn has(self, rule: Rule) -> bool {
        self.0 & (1 << rule as u64) != 0
    }
}
