//! How a rule is shown to be needed, and a promise to hold.

use twotier_testkit::protocol::{Config, Promise, Promises, Rule, Rules, explore};

/// No configuration of a rule is larger.
pub(crate) const LIMIT: usize = 1_000_000;

/// Asserts that leaving a rule out breaks a promise, and that nothing else does.
#[track_caller]
pub(crate) fn needed(rule: Rule, promise: Promise, config: Config) {
    let without = Config { without: Rules::only(rule), promises: Promises::only(promise), ..config };
    breaks(&format!("{rule:?}"), &without, &config);
}

/// As [`needed`], for rules of which each makes up for the other.
#[track_caller]
pub(crate) fn one_needed([one, other]: [Rule; 2], promise: Promise, config: Config) {
    let only = Promises::only(promise);
    let without = Config { without: Rules::only(one).and(other), promises: only, ..config };
    breaks(&format!("{one:?} and {other:?}"), &without, &config);
    for rule in [one, other] {
        let report = explore(&Config { without: Rules::only(rule), promises: only, ..config }, LIMIT);
        assert!(report.complete, "{rule:?} alone is needed: {:?}", report.violation);
    }
}

/// As [`needed`], for a configuration too large to explore here: that it keeps all is for `promises.rs` to see.
#[track_caller]
pub(crate) fn breaks_early(rule: Rule, promise: Promise, config: Config) {
    let without = Config { without: Rules::only(rule), promises: Promises::only(promise), ..config };
    assert_breaks(&format!("{rule:?}"), &without);
}

#[track_caller]
pub(crate) fn breaks(what: &str, without: &Config, with: &Config) {
    let whole = explore(with, LIMIT);
    if let Some(violation) = whole.violation {
        panic!("with every rule in force: {violation}");
    }
    assert!(whole.complete, "the configuration is too large for this test");
    assert_breaks(what, without);
}

#[track_caller]
pub(crate) fn assert_breaks(what: &str, without: &Config) {
    let Some(violation) = explore(without, LIMIT).violation else {
        panic!("without {what} nothing breaks: the rule is not needed, or the model cannot see it");
    };
    println!("{what}: {} is broken in {} steps", violation.promise, violation.depth);
}

/// No configuration is larger: one that grows by accident fails instead of filling the memory.
const MOST_STATES: usize = 60_000_000;

/// Explores every configuration and asserts that each keeps all its promises. Returns how many states there were.
#[track_caller]
pub(crate) fn hold(configurations: &[(&str, Config)]) -> usize {
    let mut total = 0;
    for (name, config) in configurations {
        let report = explore(config, MOST_STATES);
        println!("{:>9} states, {:2} steps deep: {name}", report.states, report.depth);
        if let Some(violation) = report.violation {
            panic!("{name}: {violation}");
        }
        assert!(report.complete, "{name}: more than {MOST_STATES} states");
        total += report.states;
    }
    println!("{total:>9} states in all");
    total
}

/// Whether the configurations that take minutes are to be explored.
pub(crate) fn large_ones_are_asked_for() -> bool {
    match std::env::var("TWOTIER_TEST_MODEL_STATES").as_deref() {
        Ok("large") => true,
        Ok(other) => panic!("TWOTIER_TEST_MODEL_STATES is `large` or not set, not {other:?}"),
        Err(_not_set) => {
            println!("set TWOTIER_TEST_MODEL_STATES=large to explore them");
            false
        }
    }
}
