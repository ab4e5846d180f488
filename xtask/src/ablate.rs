//! `cargo xtask ablate`: takes one rule of the coherence protocol after the other out of a copy of the sources, and
//! sees which of the nets catches it.
//!
//! The rules are taken out of the text, so nothing in the library knows of this. The model of the protocol has
//! ablations of its own, which are tests (`crates/twotier-testkit/tests/protocol/rules.rs`); these here show that the
//! nets over the *real* code can fail. Rules of which single tests tell are taken out with the tests that guard them.

mod guarded;
mod rules;
mod topology;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use lexopt::prelude::*;

use crate::{
    command,
    failure::{Failure, Outcome},
    libtest,
    server::{self, IfMissing},
};

use self::{
    guarded::{GUARDED, Guarded},
    rules::{RULES, Rule, SEEN_BY_THE_MODEL_ALONE},
    topology::TOPOLOGY,
};

/// A net that takes so many times what it takes with every rule in force, and this time besides, hangs.
const PATIENCE: u32 = 4;
const GRACE: Duration = Duration::from_secs(120);
/// How many seeds the simulation has to find a rule missing that is taken out for it by name.
const SEEDS: &str = "4000";
/// The longest that a net may take with every rule in force.
const LONGEST: Duration = Duration::from_secs(3600);

pub(crate) const USAGE: &str =
    "  ablate  which net catches it when a rule of the protocol is taken out of the sources; in a copy, on request
            --net NAME       only this net: exhaustive, schedules, simulation, stress (default: the first three),
                             auditor, which is the stress for a minute with nobody looking but the caches' auditors, or
                             guarantees or topology, which have rules of their own, each with the tests that must fail
                             without it: topology those of clusters, of Sentinel and of links that caches share
            --rule NAME      only this rule; may be given several times, and a wrong name lists them
";

/// A set of tests that should fail when a rule is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Net {
    Exhaustive,
    Schedules,
    Simulation,
    Stress,
    /// The stress, with nobody looking but the auditors.
    Auditor,
    /// Tests of one promise each: every one is asked about its own rules alone.
    Guarantees,
    /// The same of rules about several servers, and several caches on a link.
    Topology,
}

/// How a net ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Passes,
    Fails,
    /// It did not end in time.
    Hangs,
}

impl Verdict {
    fn is_caught(self) -> bool {
        self != Self::Passes
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::Passes => "passes",
            Self::Fails => "catches it",
            Self::Hangs => "catches it: it hangs",
        }
    }
}

impl Net {
    const ALL: [Self; 7] = [
        Self::Exhaustive,
        Self::Schedules,
        Self::Simulation,
        Self::Stress,
        Self::Auditor,
        Self::Guarantees,
        Self::Topology,
    ];
    /// What runs without a server, in seconds.
    const USUAL: [Self; 3] = [Self::Exhaustive, Self::Schedules, Self::Simulation];

    fn name(self) -> &'static str {
        match self {
            Self::Exhaustive => "exhaustive",
            Self::Schedules => "schedules",
            Self::Simulation => "simulation",
            Self::Stress => "stress",
            Self::Auditor => "auditor",
            Self::Guarantees => "guarantees",
            Self::Topology => "topology",
        }
    }

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Exhaustive => &["--package", "twotier-local", "--test", "exhaustive"],
            Self::Schedules => &["--package", "twotier-local", "--test", "schedules"],
            Self::Simulation => SIMULATION.arguments,
            Self::Stress | Self::Auditor => &["--release", "--package", "twotier", "--test", "stress"],
            Self::Guarantees | Self::Topology => GUARANTEES.arguments,
        }
    }
}

/// Tests that are named one by one.
struct Suite {
    /// What their names begin with here.
    name: &'static str,
    arguments: &'static [&'static str],
}

const GUARANTEES: Suite =
    Suite { name: "", arguments: &["--package", "twotier", "--all-features", "--test", "guarantees"] };
const SIMULATION: Suite = Suite {
    name: "simulation: ",
    arguments: &["--package", "twotier", "--features", "simulation", "--test", "simulation"],
};
const BACKEND: Suite =
    Suite { name: "backend: ", arguments: &["--package", "twotier-backend", "--all-features", "--lib"] };
const REDIS: Suite =
    Suite { name: "redis: ", arguments: &["--package", "twotier-backend", "--all-features", "--test", "redis"] };

/// Returns the suite of a test, and its name there.
fn suite(test: &str) -> (&'static Suite, &str) {
    let of = |suite: &'static Suite| Some((suite, test.strip_prefix(suite.name)?));
    [&SIMULATION, &BACKEND, &REDIS].into_iter().find_map(of).unwrap_or((&GUARANTEES, test))
}

/// What to take out, and where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    nets: Vec<Net>,
    /// Empty for all.
    rules: Vec<String>,
}

impl Options {
    /// Reads the options; `None` when help is asked for.
    pub(crate) fn parse(parser: &mut lexopt::Parser) -> Result<Option<Self>, lexopt::Error> {
        let mut options = Self { nets: Net::USUAL.to_vec(), rules: Vec::new() };
        while let Some(argument) = parser.next()? {
            match argument {
                Long("net") => {
                    let name = parser.value()?.string()?;
                    let net = Net::ALL.into_iter().find(|net| net.name() == name);
                    options.nets = vec![net.ok_or_else(|| format!("there is no net `{name}`"))?];
                }
                Long("rule") => options.rules.push(parser.value()?.string()?),
                Short('h') | Long("help") => return Ok(None),
                other => return Err(other.unexpected()),
            }
        }
        let there: Vec<_> = options.there().map(|rule| rule.name).collect();
        match options.rules.iter().find(|name| !there.contains(&name.as_str())) {
            Some(name) => Err(format!("there is no rule `{name}`; there are {}", there.join(", ")).into()),
            None => Ok(Some(options)),
        }
    }

    /// The rules that the nets are asked about.
    fn there(&self) -> Box<dyn Iterator<Item = &'static Rule>> {
        match self.guarded() {
            Some(guarded) => Box::new(guarded.iter().map(|guarded| &guarded.rule)),
            None => Box::new(RULES.iter()),
        }
    }

    /// The rules that come with tests of their own, where those are asked for.
    fn guarded(&self) -> Option<&'static [Guarded]> {
        match self.nets[..] {
            [Net::Guarantees] => Some(GUARDED),
            [Net::Topology] => Some(TOPOLOGY),
            _ => None,
        }
    }

    fn wants(&self, rule: &Rule) -> bool {
        self.rules.is_empty() || self.rules.iter().any(|name| name == rule.name)
    }
}

/// Takes the rules out one by one and prints which net caught which. Fails if a rule slips through all of them, or if a
/// net fails with every rule in force.
pub(crate) fn run(options: &Options) -> Outcome {
    if options.nets.iter().any(|net| !Net::USUAL.contains(net)) {
        server::ensure(IfMissing::Fail)?;
    }
    let copy = Copy::make()?;
    if let Some(guarded) = options.guarded() {
        return run_guarded(&copy, options, guarded);
    }
    command::heading("with every rule in force");
    let mut limits = Vec::new();
    for &net in &options.nets {
        let start = command::now();
        if copy.run(net, LONGEST)?.is_caught() {
            return Err(Failure::Failed(format!("the net `{}` fails although no rule was taken out", net.name())));
        }
        limits.push(GRACE + PATIENCE * start.elapsed());
        eprintln!("{:<12} passes", net.name());
    }
    let mut missed = Vec::new();
    let mut lines = Vec::new();
    for rule in RULES.iter().filter(|rule| options.wants(rule)) {
        command::heading(&format!("without {}", rule.name));
        copy.take_out(rule)?;
        let mut verdicts = Vec::new();
        for (&net, &limit) in options.nets.iter().zip(&limits) {
            let verdict = copy.run(net, limit)?;
            eprintln!("{:<12} {}", net.name(), verdict.in_words());
            verdicts.push(verdict);
        }
        copy.put_back(rule)?;
        if !verdicts.iter().any(|verdict| verdict.is_caught()) && rule.name != SEEN_BY_THE_MODEL_ALONE {
            missed.push(rule.name);
        }
        lines.push((rule.name, verdicts));
    }
    print(&options.nets, &lines);
    // One net alone need not catch everything.
    if missed.is_empty() || options.nets.len() == 1 {
        Ok(())
    } else {
        Err(Failure::Failed(format!("nothing failed without {}", missed.join(", "))))
    }
}

/// Takes each rule out that comes with tests, and fails if one of them passes without it, or fails with it.
fn run_guarded(copy: &Copy, options: &Options, guarded: &[Guarded]) -> Outcome {
    let wanted: Vec<&Guarded> = guarded.iter().filter(|guarded| options.wants(&guarded.rule)).collect();
    let tests: BTreeSet<&str> = wanted.iter().flat_map(|guarded| guarded.tests).copied().collect();
    command::heading("with every rule in force");
    let start = command::now();
    let failing: Vec<&str> = tests
        .iter()
        .copied()
        .filter_map(|test| copy.test(test, LONGEST).map(|verdict| verdict.is_caught().then_some(test)).transpose())
        .collect::<Outcome<_>>()?;
    if !failing.is_empty() {
        return Err(Failure::Failed(format!(
            "although no rule was taken out, {} fail, or are not there",
            failing.join(", ")
        )));
    }
    eprintln!("{} tests pass", tests.len());
    let limit = GRACE + PATIENCE * start.elapsed();
    let mut missed = Vec::new();
    for Guarded { rule, tests } in &wanted {
        command::heading(&format!("without {}", rule.name));
        copy.take_out(rule)?;
        for test in *tests {
            let verdict = copy.test(test, limit)?;
            let word = match verdict {
                Verdict::Passes => "MISSED",
                Verdict::Fails => "caught",
                Verdict::Hangs => "hangs",
            };
            println!("{word:<7} {}: {test}", rule.name);
            if !verdict.is_caught() {
                missed.push(format!("`{test}` passes without {}", rule.name));
            }
        }
        copy.put_back(rule)?;
    }
    println!("{} rules, {} missed", wanted.len(), missed.len());
    if missed.is_empty() { Ok(()) } else { Err(Failure::Failed(missed.join("; "))) }
}

fn print(nets: &[Net], lines: &[(&str, Vec<Verdict>)]) {
    println!();
    let columns: Vec<String> = nets.iter().map(|net| format!("{:<12}", net.name())).collect();
    println!("{:<56}{}", "rule taken out", columns.concat());
    for (name, verdicts) in lines {
        let word = |verdict: &Verdict| match verdict {
            Verdict::Passes => "-",
            Verdict::Fails => "caught",
            Verdict::Hangs => "hangs",
        };
        let columns: Vec<String> = verdicts.iter().map(|verdict| format!("{:<12}", word(verdict))).collect();
        println!("{name:<56}{}", columns.concat());
    }
    for (index, net) in nets.iter().enumerate() {
        let caught = lines.iter().filter(|(_, verdicts)| verdicts[index].is_caught()).count();
        println!("{}: {caught} of {} rules caught", net.name(), lines.len());
    }
}

fn all_rules() -> impl Iterator<Item = &'static Rule> {
    RULES.iter().chain(GUARDED.iter().chain(TOPOLOGY).map(|guarded| &guarded.rule))
}

/// A copy of the repository's sources, below the build folder.
struct Copy {
    root: PathBuf,
    /// The sources of every file that a rule is taken out of, as they were.
    whole: BTreeMap<&'static str, String>,
}

impl Copy {
    fn make() -> Outcome<Self> {
        let root = command::root().join("target/ablate");
        let listed = command::output(Command::new("git").current_dir(command::root()).args([
            "ls-files",
            "-co",
            "--exclude-standard",
        ]))?;
        remove_others(&root, &root, &listed.lines().map(Path::new).collect())?;
        for file in listed.lines() {
            let (from, to) = (command::root().join(file), root.join(file));
            if !from.is_file() {
                continue;
            }
            // Left alone where nothing changed, so that it is not built again.
            let bytes = fs::read(&from)?;
            if fs::read(&to).is_ok_and(|there| there == bytes) {
                continue;
            }
            fs::create_dir_all(to.parent().unwrap_or(&root))?;
            fs::write(&to, bytes)?;
        }
        let mut whole = BTreeMap::new();
        for edit in all_rules().flat_map(|rule| rule.edits) {
            whole.insert(edit.file, fs::read_to_string(root.join(edit.file))?);
        }
        Ok(Self { root, whole })
    }

    fn take_out(&self, rule: &Rule) -> Outcome {
        let mut texts: BTreeMap<&str, String> = BTreeMap::new();
        for edit in rule.edits {
            let text = texts.entry(edit.file).or_insert_with(|| self.whole[edit.file].clone());
            if text.matches(edit.from).count() != edit.times {
                return Err(Failure::Failed(format!("{}: the rule is not in {} as it was", rule.name, edit.file)));
            }
            *text = text.replace(edit.from, edit.to);
        }
        for (file, text) in texts {
            fs::write(self.root.join(file), text)?;
        }
        Ok(())
    }

    fn put_back(&self, rule: &Rule) -> Outcome {
        for edit in rule.edits {
            fs::write(self.root.join(edit.file), &self.whole[edit.file])?;
        }
        Ok(())
    }

    /// Runs a net over the copy. That the copy does not build is an error.
    fn run(&self, net: Net, limit: Duration) -> Outcome<Verdict> {
        command::output(self.cargo_test(net.arguments()).args(["--quiet", "--no-run"]))?;
        let mut test = self.cargo_test(net.arguments());
        test.arg("--quiet");
        // Whoever looks for himself sees more than who samples.
        test.env("TWOTIER_TEST_STRESS_SECONDS", if net == Net::Auditor { "60" } else { "20" });
        test.env("TWOTIER_TEST_STRESS_FAULTS", "all");
        if net == Net::Auditor {
            test.env("TWOTIER_TEST_STRESS_AUDITORS_ALONE", "1");
        }
        Ok(match command::within(limit, &mut test)? {
            None => Verdict::Hangs,
            Some((status, _)) if status.success() => Verdict::Passes,
            Some(_) => Verdict::Fails,
        })
    }

    /// Runs one test over the copy, which fails too where it is not there. That the copy does not build is an error.
    fn test(&self, test: &str, limit: Duration) -> Outcome<Verdict> {
        let (suite, name) = suite(test);
        command::output(self.cargo_test(suite.arguments).args(["--quiet", "--no-run"]))?;
        let mut cargo = self.cargo_test(suite.arguments);
        cargo.args(["--quiet", "--", "--exact", name]).env("TWOTIER_TEST_SEEDS", SEEDS);
        Ok(match command::within(limit, &mut cargo)? {
            None => Verdict::Hangs,
            Some((_, printed)) if libtest::passed(&printed) > 0 => Verdict::Passes,
            Some(_) => Verdict::Fails,
        })
    }

    fn cargo_test(&self, arguments: &[&str]) -> Command {
        let mut cargo = command::cargo("test");
        cargo.current_dir(&self.root).args(arguments);
        cargo.env("CARGO_TARGET_DIR", self.target()).env("RUSTFLAGS", "--cap-lints=allow");
        cargo
    }

    fn target(&self) -> PathBuf {
        Path::new(&self.root).join("target")
    }
}

/// Removes what an earlier copy holds and the sources do not any more. What was built from it stays.
fn remove_others(root: &Path, folder: &Path, sources: &BTreeSet<&Path>) -> Outcome {
    let Ok(listing) = fs::read_dir(folder) else { return Ok(()) };
    for entry in listing {
        let path = entry?.path();
        let relative = path.strip_prefix(root).unwrap_or(&path);
        if path.is_dir() {
            if relative != Path::new("target") {
                remove_others(root, &path, sources)?;
            }
        } else if relative != Path::new("Cargo.lock") && !sources.contains(relative) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_in_the_sources_once_for_each_edit() {
        for rule in all_rules() {
            for edit in rule.edits {
                let text = fs::read_to_string(command::root().join(edit.file)).unwrap();
                let found = text.matches(edit.from).count();
                assert_eq!(found, edit.times, "{}: {:?} in {}", rule.name, edit.from, edit.file);
                assert_ne!(edit.from, edit.to);
            }
        }
    }

    #[test]
    fn every_rule_has_a_name_of_its_own_and_every_guarded_one_a_test() {
        let names: BTreeSet<_> = all_rules().map(|rule| rule.name).collect();
        assert_eq!(names.len(), all_rules().count());
        for Guarded { rule, tests } in GUARDED.iter().chain(TOPOLOGY) {
            assert!(!tests.is_empty(), "{}", rule.name);
            for test in *tests {
                let (suite, name) = suite(test);
                let folder = match suite.name {
                    "simulation: " => "crates/twotier/tests/simulation",
                    "backend: " => "crates/twotier-backend/src",
                    "redis: " => "crates/twotier-backend/tests/redis",
                    _ => "crates/twotier/tests/guarantees",
                };
                // Such as `redis::census::tests::a_test` in `redis/census/tests.rs`, or in `redis/census.rs`.
                let mut path: Vec<&str> = name.split("::").collect();
                let function = format!("fn {}(", path.pop().unwrap());
                let in_file = |path: &[&str]| {
                    let file = command::root().join(folder).join(path.join("/")).with_extension("rs");
                    fs::read_to_string(file).is_ok_and(|text| text.contains(&function))
                };
                assert!(in_file(&path) || in_file(&path[..path.len() - 1]), "{test}");
            }
        }
    }

    #[test]
    fn a_copy_loses_what_the_sources_have_lost_and_keeps_what_was_built() {
        let root = std::env::temp_dir().join(format!("twotier-ablate-{}", std::process::id()));
        for file in ["src/kept.rs", "src/gone.rs", "target/built", "Cargo.lock"] {
            fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            fs::write(root.join(file), "").unwrap();
        }
        remove_others(&root, &root, &BTreeSet::from([Path::new("src/kept.rs")])).unwrap();
        let left = ["src/kept.rs", "src/gone.rs", "target/built", "Cargo.lock"].map(|file| root.join(file).exists());
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(left, [true, false, true, true]);
    }

    #[test]
    fn options_are_read_and_wrong_names_listed() {
        let parsed = |words: &[&str]| Options::parse(&mut lexopt::Parser::from_args(words)).map_err(|e| e.to_string());
        assert_eq!(parsed(&[]).unwrap().unwrap().nets, Net::USUAL);
        assert_eq!(parsed(&["--net", "stress"]).unwrap().unwrap().nets, [Net::Stress]);
        assert!(parsed(&["--net", "fish"]).unwrap_err().contains("fish"));
        let rules = ["--rule", RULES[1].name, "--rule", RULES[0].name];
        assert_eq!(RULES.iter().filter(|rule| parsed(&rules).unwrap().unwrap().wants(rule)).count(), 2);
        assert!(parsed(&["--rule", "none"]).unwrap_err().contains(RULES[0].name));
        let guarded = ["--rule", GUARDED[0].rule.name, "--net", "guarantees"];
        assert!(parsed(&guarded).unwrap().unwrap().wants(&GUARDED[0].rule));
        assert!(parsed(&guarded[..2]).unwrap_err().contains(RULES[0].name));
        assert!(parsed(&["--rule", TOPOLOGY[0].rule.name, "--net", "topology"]).is_ok());
    }
}
