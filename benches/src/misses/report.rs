//! The tables of this suite.

use crate::{
    format::{time, times},
    sheet::{Findings, Sheet},
    spread::Spread,
    table::Table,
};

use super::{KEYS, Misses, TASKS, VALUE};

impl Misses {
    /// Returns the tables.
    #[must_use]
    pub fn findings(&self) -> Findings {
        let mut notes = vec![
            format!("Server: {}; {}.", self.server, self.pinning),
            format!("{KEYS} keys of {VALUE} bytes with a time to live are read in turn, none of them held locally."),
            "Figures are median (least..greatest); ratios are to redis-rs' plain `GET` in the same repetition, with the \
             connection as that crate sets it up: Nagle's algorithm is on, which on a near network makes batches too."
                .to_owned(),
            "Asked for: 0.95, 0.95, 1.15 and 1.7 times redis-rs at 1, 8, 64 and 512 tasks, and at 512 tasks a p99 of at \
             most 0.3 of it."
                .to_owned(),
        ];
        if self.smoke {
            notes.push("SMOKE: tiny counts; these figures mean nothing.".to_owned());
        }
        notes.extend(self.left_out.iter().map(|what| format!("Left out: {what}.")));
        let title = "reads of distinct keys by so many tasks, each one key at a time".to_owned();
        let mut sheets = vec![Sheet { title, notes, table: self.clients() }];
        if !self.ceilings.is_empty() {
            let title = "what the server gives a client that does nothing with its replies".to_owned();
            sheets.push(Sheet { title, notes: Vec::new(), table: self.ceilings() });
        }
        if let Some(far) = &self.far {
            let mut table = Table::new(&["<cold reads", "time"]);
            table.row(["one command after the other".to_owned(), times(&far.one_by_one)]);
            table.row([format!("redis-rs GET by {} tasks", far.tasks), times(&far.commands_by_default)]);
            table.row([format!("redis-rs GET by {} tasks, TCP_NODELAY", far.tasks), times(&far.commands)]);
            table.row([format!("Cache::get by {} tasks", far.tasks), times(&far.gets)]);
            table.row(["one Cache::get_many".to_owned(), times(&far.get_many)]);
            let title = format!("{} cold reads, 37 ms a round trip", far.reads);
            sheets.push(Sheet { title, notes: Vec::new(), table });
        }
        Findings {
            suite: "misses",
            title: "what a miss costs under load",
            command: "cargo xtask bench --suite misses".to_owned(),
            machine: self.machine.clone(),
            sheets,
        }
    }

    fn clients(&self) -> Table {
        let header =
            ["<client", "reads/s", "to redis-rs", "p50", "p99", "p99 to redis-rs", "p99.9", "CPU a read", "hits"];
        let mut table = Table::new(&header);
        for tasks in TASKS {
            table.heading(format!("{tasks} tasks (n = {})", self.rows.first().map_or(0, |row| row.ratio.n)));
            for row in self.rows.iter().filter(|row| row.tasks == tasks) {
                table.row([
                    format!("  {}", row.client),
                    thousands(&row.throughput),
                    ratio(&row.ratio),
                    time(row.p50.median),
                    time(row.p99.median),
                    ratio(&row.p99_ratio),
                    time(row.p999.median),
                    row.cpu.as_ref().map_or_else(|| "-".to_owned(), |cpu| time(cpu.median)),
                    format!("{:.1} %", row.hit_ratio * 100.0),
                ]);
            }
        }
        table
    }

    fn ceilings(&self) -> Table {
        let mut table = Table::new(&["<redis-benchmark GET, one connection", "reads/s", "Cache::get, as many tasks"]);
        for ceiling in &self.ceilings {
            table.row([
                format!("  -P {} -c 1", ceiling.depth),
                thousands(&ceiling.throughput),
                ceiling.ours.as_ref().map_or_else(|| "-".to_owned(), ratio),
            ]);
        }
        table
    }
}

fn thousands(spread: &Spread) -> String {
    format!("{:.1} k", spread.median / 1e3)
}

fn ratio(spread: &Spread) -> String {
    format!("{:.2} ({:.2}..{:.2})", spread.median, spread.min, spread.max)
}
