//! The rules that are taken out, each as a change of the sources.

/// A rule of the protocol.
pub(super) struct Rule {
    pub(super) name: &'static str,
    pub(super) edits: &'static [Edit],
}

/// A text that makes the rule, and what is there without it.
pub(super) struct Edit {
    pub(super) file: &'static str,
    pub(super) from: &'static str,
    pub(super) to: &'static str,
    /// How often the text is there.
    pub(super) times: usize,
}

const SHARD: &str = "crates/twotier-local/src/shard.rs";
const TICKET: &str = "crates/twotier-local/src/ticket.rs";
const CLEARING: &str = "crates/twotier-local/src/clearing.rs";
const FLIGHT: &str = "crates/twotier-local/src/flight.rs";
const LOAD: &str = "crates/twotier-local/src/load.rs";
const LOADS: &str = "crates/twotier-local/src/loads.rs";
const INNER: &str = "crates/twotier-local/src/inner.rs";
const LINK: &str = "crates/twotier-local/src/link.rs";
const REDIS_SUPERVISOR: &str = "crates/twotier-backend/src/redis/link/supervisor.rs";
const REDIS_STATE: &str = "crates/twotier-backend/src/redis/link/state.rs";
const REDIS_PUSH: &str = "crates/twotier-backend/src/redis/session/push.rs";
const REDIS_FENCE: &str = "crates/twotier-backend/src/redis/session/fence.rs";
const STORE: &str = "crates/twotier/src/load/store.rs";

pub(super) const fn edit(file: &'static str, from: &'static str, to: &'static str) -> Edit {
    Edit { file, from, to, times: 1 }
}

/// Makes what a ticket brings look as if it had been read in the epoch in which it arrives.
const STAMP_ON_ARRIVAL: Edit = edit(
    TICKET,
    "            mark: self.mark,\n",
    "            mark: Mark::new(self.mark.link, self.tier.links.epoch(self.mark.link), self.mark.at),\n",
);

/// The rule whose want shows for no longer than one cycle of a server's event loop, and only on servers that
/// acknowledge before they report: the model sees it, and no net over the real code has yet.
pub(super) const SEEN_BY_THE_MODEL_ALONE: &str = "a lease needs the second reply";

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "overlapping own writes install nothing",
        edits: &[edit(
            SHARD,
            "*write = Pending { pending: write.pending + 1, live: None, digest },",
            "*write = Pending { pending: write.pending + 1, live: write.live, digest },",
        )],
    },
    Rule {
        name: "nor does the one registered last",
        edits: &[edit(
            SHARD,
            "*write = Pending { pending: write.pending + 1, live: None, digest },",
            "*write = Pending { pending: write.pending + 1, live: Some(id), digest },",
        )],
    },
    Rule {
        name: "a report kills the pending write",
        edits: &[edit(SHARD, "        self.forbid_install(hash, key);\n        let _dead", "        let _dead")],
    },
    Rule {
        name: "a write checks its epoch",
        edits: &[
            edit(
                SHARD,
                "let coherent = live && is_up(epoch) && epoch == ticket.epoch;",
                "let coherent = live && is_up(epoch);",
            ),
            STAMP_ON_ARRIVAL,
        ],
    },
    Rule {
        name: "a read checks its epoch",
        edits: &[
            edit(
                SHARD,
                "if fits && is_up(epoch) && epoch == ticket.epoch && write.is_none()",
                "if fits && is_up(epoch) && write.is_none()",
            ),
            STAMP_ON_ARRIVAL,
        ],
    },
    Rule {
        name: "an entry is of the current epoch",
        edits: &[edit(SHARD, "if origin.epoch(entry) != epoch {", "if epoch == 0 {")],
    },
    Rule {
        name: "a ticket is of the link that its key lies behind",
        edits: &[edit(INNER, "            if now == link {\n", "            if now == link || link != NOWHERE {\n")],
    },
    Rule {
        name: "no read is kept while a write is pending",
        edits: &[edit(
            SHARD,
            "if fits && is_up(epoch) && epoch == ticket.epoch && write.is_none()",
            "if fits && is_up(epoch) && epoch == ticket.epoch",
        )],
    },
    Rule {
        name: "the entry goes when the write begins",
        edits: &[edit(
            SHARD,
            "        self.remove_entry_if(hash, key, |_| true, RemovalCause::Superseded);\n        self.kill_flight(hash, key);\n        id",
            "        self.kill_flight(hash, key);\n        id",
        )],
    },
    Rule {
        name: "an ending write kills the read",
        edits: &[Edit { file: SHARD, from: "self.kill_flight(ticket.hash, ticket.key);", to: "", times: 2 }],
    },
    Rule {
        name: "a refused read removes the entry",
        edits: &[edit(SHARD, "|entry| entry.digest != digest,", "|_entry| false,")],
    },
    Rule {
        name: "a refused read kills the write",
        edits: &[edit(SHARD, "&& write.digest != digest\n", "&& write.digest != write.digest\n")],
    },
    Rule {
        name: "a refused read binds the next",
        edits: &[edit(SHARD, "        self.bind_flight(ticket, digest);\n", "")],
    },
    Rule {
        name: "whoever joins a bound read is bound",
        edits: &[edit(
            SHARD,
            "registered.bound.filter(|_| registered.id <= began)",
            "registered.bound.filter(|_| false)",
        )],
    },
    Rule {
        name: "only the registered read is kept",
        edits: &[edit(SHARD, "registered.is_some_and(|flight| flight", "registered.is_none_or(|flight| flight")],
    },
    Rule {
        name: "a dead read is not joined",
        edits: &[edit(
            SHARD,
            "let _dead = self.flights.remove_if(hash, key, |_| true);",
            "let _dead = self.flights.remove_if(hash, key, |_| false);",
        )],
    },
    Rule {
        name: "a read of another epoch is not joined",
        edits: &[edit(SHARD, "            && registered.epoch == epoch\n", "")],
    },
    Rule {
        name: "a read that is dropped is taken down",
        edits: &[edit(TICKET, "self.abandon(|_registered| Outcome::Abandoned);", "")],
    },
    Rule {
        name: "a write that is dropped is taken down",
        edits: &[edit(TICKET, "        shard.abandon_write(self.state.id());\n", "")],
    },
    Rule {
        name: "nothing is kept while clearing",
        edits: &[edit(LINK, "if self.clearings.load(Ordering::SeqCst) == 0 { epoch } else { 0 }", "epoch")],
    },
    Rule {
        name: "clearing ends with a flush",
        edits: &[edit(CLEARING, "        self.0.links.flush_all();\n        drop(self.0.take_all());\n", "")],
    },
    Rule {
        name: "a new link starts without a lease",
        edits: &[edit(
            LINK,
            "        state.lease.store(until.as_nanos(), Ordering::Release);\n",
            "        state.lease.fetch_max(until.as_nanos(), Ordering::AcqRel);\n",
        )],
    },
    Rule {
        name: "hits end with the lease",
        edits: &[edit(SHARD, "if lookup.now >= lease {", "if lookup.now > twotier_core::Timestamp::MAX {")],
    },
    Rule {
        name: "hits end with the deadline",
        edits: &[edit(
            SHARD,
            "let is_expired = lookup.now >= origin.deadline(entry);",
            "let is_expired = lookup.now > twotier_core::Timestamp::MAX;",
        )],
    },
    Rule {
        name: "a lease counts from before its request",
        edits: &[edit(
            REDIS_SUPERVISOR,
            "                member.proof_of_life(mark, marked, as_of);\n",
            "                let _early = mark;\n                member.proof_of_life(member.mark(), marked, as_of);\n",
        )],
    },
    Rule {
        name: "a lease needs the second reply",
        edits: &[
            edit(REDIS_SUPERVISOR, "std::mem::replace(&mut answered, marks)", "marks"),
            edit(REDIS_SUPERVISOR, "    mut answered: Marks,", "    _answered: Marks,"),
        ],
    },
    Rule { name: "reports are applied", edits: &[edit(REDIS_PUSH, "            member.changed(key);\n", "")] },
    Rule {
        name: "a null report flushes",
        edits: &[edit(
            REDIS_PUSH,
            "                _ => self.flushed(),\n            },\n            PushKind::Message",
            "                Some(_) => self.flushed(),\n                None => {}\n            },\n            PushKind::Message",
        )],
    },
    Rule {
        name: "a lost link is reported",
        edits: &[edit(
            REDIS_STATE,
            "            self.listeners.all().iter().for_each(|member| member.link_lost(&cause));\n",
            "",
        )],
    },
    Rule {
        name: "an answer that nobody waits for is dropped",
        edits: &[edit(FLIGHT, "if waiting.joiners == 0 { Some(arrival) } else", "if false { Some(arrival) } else")],
    },
    Rule {
        name: "an answer goes with its last joiner",
        edits: &[edit(FLIGHT, "waiting.arrival.take()) } else", "None::<Box<dyn Arrival>>) } else")],
    },
    Rule {
        name: "an answer wakes those who wait",
        edits: &[edit(FLIGHT, "drop(unwanted);\n        wakers.for_each(Waker::wake);", "drop((unwanted, wakers));")],
    },
    Rule {
        name: "whoever joins is counted",
        edits: &[edit(FLIGHT, "        self.waiting.lock().joiners += 1;\n", "")],
    },
    Rule {
        name: "a report kills the load",
        edits: &[edit(SHARD, "        let _dead = self.loads.kill(hash, key);\n        let held", "        let held")],
    },
    Rule {
        name: "a write that begins kills the load",
        edits: &[edit(
            SHARD,
            "        let _dead = self.loads.kill(hash, key);\n        self.register",
            "        self.register",
        )],
    },
    Rule {
        name: "a write that ends kills the load",
        edits: &[edit(LOADS, "_ => _ = self.kill(write.hash, write.key),", "_ => {}")],
    },
    Rule {
        name: "the store of a load does not kill it",
        edits: &[edit(LOADS, "Some(store) if store.write == write.id =>", "Some(store) if store.write == 0 =>")],
    },
    Rule { name: "a clear kills the loads", edits: &[edit(SHARD, "        self.loads.clear();\n", "")] },
    Rule {
        name: "a load of another epoch is dead",
        edits: &[edit(
            LOADS,
            "        epoch == ticket.epoch && self.registered.find",
            "        epoch < u64::MAX && self.registered.find",
        )],
    },
    Rule {
        name: "a load of another epoch is not joined",
        edits: &[edit(LOADS, "            && registered.epoch == ticket.epoch\n", "")],
    },
    Rule {
        name: "a load that took too long is not joined again",
        edits: &[edit(LOADS, "            && waited != Some(registered.id)\n", "")],
    },
    Rule {
        name: "a read that saw something else kills the load",
        edits: &[edit(
            SHARD,
            "let overtaken = self.loads.see(ticket.hash, ticket.key, digest);\n        (self",
            "let overtaken = None;\n        (self",
        )],
    },
    Rule {
        name: "a load is bound to what its leader saw",
        edits: &[edit(
            SHARD,
            "let overtaken = self.loads.see(ticket.hash, ticket.key, digest);\n        (overtaken",
            "let overtaken: Option<L> = None;\n        (overtaken",
        )],
    },
    Rule {
        name: "its own value is no news to a load",
        edits: &[edit(LOADS, "if own || load.saw", "if own && own != own || load.saw")],
    },
    Rule {
        name: "a load sees what it has stored",
        edits: &[edit(LOADS, "                    load.saw = Some(store.digest);\n", "")],
    },
    Rule {
        name: "only a live load is stored",
        edits: &[edit(SHARD, "if !is_up(epoch) || !self.loads.is_live(ticket, epoch) {", "if !is_up(epoch) {")],
    },
    Rule {
        name: "no load is stored without a link",
        edits: &[edit(
            SHARD,
            "if !is_up(epoch) || !self.loads.is_live(ticket, epoch) {",
            "if !self.loads.is_live(ticket, epoch) {",
        )],
    },
    Rule {
        name: "no load is stored while the backend is cleared",
        edits: &[edit(LOAD, "let epoch = tier.links.keeping_epoch(link);", "let epoch = tier.links.epoch(link);")],
    },
    Rule {
        name: "no load is stored while a write is pending",
        edits: &[edit(
            SHARD,
            "if self.writes.find(ticket.hash, ticket.key).is_some() {\n            let _dead",
            "if self.writes.find(ticket.hash, ticket.key).is_none() && false {\n            let _dead",
        )],
    },
    Rule {
        name: "a load that ends leaves the next alone",
        edits: &[edit(
            LOADS,
            "if self.registered.find(ticket.hash, ticket.key).is_some_and(|load| load.id == ticket.id) {\n            let _ended",
            "if self.registered.find(ticket.hash, ticket.key).is_some() {\n            let _ended",
        )],
    },
    Rule {
        name: "an overtaken load that returns a value evicts",
        edits: &[edit(SHARD, "            self.give_way(ticket);\n", "")],
    },
    Rule {
        name: "an overtaken load binds the next one's joiners",
        edits: &[edit(SHARD, "        self.loads.outrun(hash, key);\n", "")],
    },
    Rule {
        name: "an answer that overtakes a load binds its joiners",
        edits: &[edit(LOAD, "self.informed && self.state", "self.informed && !self.informed && self.state")],
    },
    Rule {
        name: "a load that is dropped is taken down",
        edits: &[edit(LOAD, "    fn drop(&mut self) {\n        self.end(None);\n", "    fn drop(&mut self) {\n")],
    },
    Rule {
        name: "a loaded value is stored only over what the load saw",
        edits: &[edit(STORE, "condition: WriteCondition::Absent });", "condition: WriteCondition::Always });")],
    },
    Rule {
        name: "a link ends the one before at the server",
        edits: &[edit(
            REDIS_FENCE,
            "flat_map(|earlier| &earlier.ids).copied().collect()",
            "flat_map(|earlier| &earlier.ids[..0]).copied().collect()",
        )],
    },
];
