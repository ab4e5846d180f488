//! `cargo xtask ablate`: takes one rule of the coherence protocol after the other out of a copy of the sources, and
//! sees which of the nets catches it.
//!
//! The rules are taken out of the text, so nothing in the library knows of this. The model of the protocol has
//! ablations of its own, which are tests (`crates/twotier-testkit/tests/protocol/rules.rs`); these here show that the
//! nets over the *real* code can fail. Rules of which one guarantee alone tells are taken out with the test that guards
//! them.

mod guarded;
mod rules;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
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
};

pub(crate) const USAGE: &str =
    "  ablate  which net catches it when a rule of the protocol is taken out of the sources; in a copy, on request
            --net NAME       only this net: exhaustive, schedules, simulation, stress (default: the first three),
                             auditor, which is the stress for a minute with nobody looking but the caches' auditors, or
                             guarantees, which has rules of its own, each with the tests that must fail without it
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
}

impl Net {
    const ALL: [Self; 6] =
        [Self::Exhaustive, Self::Schedules, Self::Simulation, Self::Stress, Self::Auditor, Self::Guarantees];
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
        }
    }

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Exhaustive => &["--package", "twotier-local", "--test", "exhaustive"],
            Self::Schedules => &["--package", "twotier-local", "--test", "schedules"],
            Self::Simulation => &["--package", "twotier", "--features", "simulation", "--test", "simulation"],
            Self::Stress | Self::Auditor => &["--release", "--package", "twotier", "--test", "stress"],
            Self::Guarantees => &["--package", "twotier", "--all-features", "--test", "guarantees"],
        }
    }
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
        match self.nets[..] {
            [Net::Guarantees] => Box::new(GUARDED.iter().map(|guarded| &guarded.rule)),
            _ => Box::new(RULES.iter()),
        }
    }

    fn wants(&self, rule: &Rule) -> bool {
        self.rules.is_empty() || self.rules.iter().any(|name| name == rule.name)
    }
}

/// Takes the rules out one by one and prints which net caught which. Fails if a rule slips through all of them, or if a
/// net fails with every rule in force.
pub(crate) fn run(options: &Options) -> Outcome {
    if options.nets.iter().any(|net| matches!(net, Net::Stress | Net::Auditor | Net::Guarantees)) {
        server::ensure(IfMissing::Fail)?;
    }
    let copy = Copy::make()?;
    if options.nets == [Net::Guarantees] {
        return run_guarded(&copy, options);
    }
    command::heading("with every rule in force");
    for &net in &options.nets {
        if copy.catches(net)? {
            return Err(Failure::Failed(format!("the net `{}` fails although no rule was taken out", net.name())));
        }
        eprintln!("{:<12} passes", net.name());
    }
    let mut missed = Vec::new();
    let mut lines = Vec::new();
    for rule in RULES.iter().filter(|rule| options.wants(rule)) {
        command::heading(&format!("without {}", rule.name));
        copy.take_out(rule)?;
        let mut verdicts = Vec::new();
        for &net in &options.nets {
            let caught = copy.catches(net)?;
            eprintln!("{:<12} {}", net.name(), if caught { "catches it" } else { "passes" });
            verdicts.push(caught);
        }
        copy.put_back(rule)?;
        if !verdicts.contains(&true) && rule.name != SEEN_BY_THE_MODEL_ALONE {
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

/// Takes each rule out that a guarantee guards, and fails if one of its tests passes without it, or fails with it.
fn run_guarded(copy: &Copy, options: &Options) -> Outcome {
    let wanted: Vec<&Guarded> = GUARDED.iter().filter(|guarded| options.wants(&guarded.rule)).collect();
    let tests: BTreeSet<&str> = wanted.iter().flat_map(|guarded| guarded.tests).copied().collect();
    command::heading("with every rule in force");
    let whole = copy.passes(&tests)?;
    if whole != tests.len() as u64 {
        let all = tests.len();
        return Err(Failure::Failed(format!(
            "{whole} of {all} tests pass, or are there, although no rule was taken out"
        )));
    }
    eprintln!("{whole} tests pass");
    let mut missed = Vec::new();
    for Guarded { rule, tests } in &wanted {
        command::heading(&format!("without {}", rule.name));
        copy.take_out(rule)?;
        for test in *tests {
            let caught = copy.passes(&BTreeSet::from([*test]))? == 0;
            println!("{:<7} {}: {test}", if caught { "caught" } else { "MISSED" }, rule.name);
            if !caught {
                missed.push(format!("`{test}` passes without {}", rule.name));
            }
        }
        copy.put_back(rule)?;
    }
    println!("guarantees: {} rules, {} missed", wanted.len(), missed.len());
    if missed.is_empty() { Ok(()) } else { Err(Failure::Failed(missed.join("; "))) }
}

fn print(nets: &[Net], lines: &[(&str, Vec<bool>)]) {
    println!();
    let columns: Vec<String> = nets.iter().map(|net| format!("{:<12}", net.name())).collect();
    println!("{:<56}{}", "rule taken out", columns.concat());
    for (name, verdicts) in lines {
        let columns: Vec<String> =
            verdicts.iter().map(|caught| format!("{:<12}", if *caught { "caught" } else { "-" })).collect();
        println!("{name:<56}{}", columns.concat());
    }
    for (index, net) in nets.iter().enumerate() {
        let caught = lines.iter().filter(|(_, verdicts)| verdicts[index]).count();
        println!("{}: {caught} of {} rules caught", net.name(), lines.len());
    }
}

fn all_rules() -> impl Iterator<Item = &'static Rule> {
    RULES.iter().chain(GUARDED.iter().map(|guarded| &guarded.rule))
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

    /// Runs a net over the copy, and returns whether it failed. That the copy does not build is an error.
    fn catches(&self, net: Net) -> Outcome<bool> {
        command::output(self.cargo_test(net).args(["--quiet", "--no-run"]))?;
        let mut test = self.cargo_test(net);
        // Lints are for people, and what fails says so by its exit code.
        test.arg("--quiet").stdout(Stdio::null()).stderr(Stdio::null());
        // Whoever looks for himself sees more than who samples.
        test.env("TWOTIER_TEST_STRESS_SECONDS", if net == Net::Auditor { "60" } else { "20" });
        test.env("TWOTIER_TEST_STRESS_FAULTS", "all");
        if net == Net::Auditor {
            test.env("TWOTIER_TEST_STRESS_AUDITORS_ALONE", "1");
        }
        let status = test.status().map_err(|error| Failure::Failed(format!("cannot start cargo: {error}")))?;
        Ok(!status.success())
    }

    /// Runs some of the guarantees over the copy, and returns how many passed. That the copy does not build is an
    /// error.
    fn passes(&self, tests: &BTreeSet<&str>) -> Outcome<u64> {
        command::output(self.cargo_test(Net::Guarantees).args(["--quiet", "--no-run"]))?;
        let mut cargo = self.cargo_test(Net::Guarantees);
        // What a test prints as it fails is no news here.
        cargo.args(["--quiet", "--", "--exact"]).args(tests).stderr(Stdio::null());
        let tested = libtest::run_unseen(&mut cargo)?;
        Ok(tested.totals.passed)
    }

    fn cargo_test(&self, net: Net) -> Command {
        let mut cargo = command::cargo("test");
        cargo.current_dir(&self.root).args(net.arguments());
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
        for Guarded { rule, tests } in GUARDED {
            assert!(!tests.is_empty(), "{}", rule.name);
            for test in *tests {
                let (file, name) = (test.split("::").next().unwrap(), test.rsplit("::").next().unwrap());
                let path = command::root().join(format!("crates/twotier/tests/guarantees/{file}.rs"));
                assert!(fs::read_to_string(path).unwrap().contains(&format!("fn {name}(")), "{test}");
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
    }
}
