//! The tables of this suite.

use std::fmt;

use crate::{
    format::{time, times},
    machine::Machine,
    spread::Spread,
    table::Table,
};

use super::{KEYS, Misses, TASKS, VALUE};

impl fmt::Display for Misses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { cpu, cores, os, rustc, profile, .. } = &self.machine;
        writeln!(f, "twotier: what a miss costs under load\n")?;
        writeln!(f, "  machine   {cpu}, {cores} cores, {os}")?;
        writeln!(f, "  build     {rustc}, {profile}")?;
        writeln!(f, "  server    {}", self.server)?;
        writeln!(f, "  pinned    {}", self.pinning)?;
        writeln!(
            f,
            "  figures   median (least..greatest); {KEYS} keys of {VALUE} bytes with a time to live, read in turn"
        )?;
        if self.smoke {
            writeln!(f, "\nSMOKE: tiny counts; these figures mean nothing")?;
        }
        for left_out in &self.left_out {
            writeln!(f, "\nLEFT OUT: {left_out}")?;
        }
        writeln!(f, "\n{}", self.clients())?;
        if !self.ceilings.is_empty() {
            writeln!(f, "{}", self.ceilings())?;
        }
        if let Some(far) = &self.far {
            let mut table = Table::new(&["<far away", "time"]);
            table.heading(format!("{} cold reads, 37 ms a round trip", far.reads));
            table.row(["  one command after the other".to_owned(), times(&far.one_by_one)]);
            table.row([format!("  redis-rs GET by {} tasks", far.tasks), times(&far.commands)]);
            table.row([format!("  Cache::get by {} tasks", far.tasks), times(&far.gets)]);
            table.row(["  one Cache::get_many".to_owned(), times(&far.get_many)]);
            write!(f, "{table}")?;
        }
        Ok(())
    }
}

impl Misses {
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
        let mut table = Table::new(&["<redis-benchmark GET, one connection", "reads/s", "our backend, as many tasks"]);
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
