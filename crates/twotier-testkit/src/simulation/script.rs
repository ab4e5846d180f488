//! What each script of the library does, recognised by what it begins with.

use std::time::Duration;

use super::{resp::Output, state::State};

/// Executes a script with one key. What it writes is pushed to whoever runs it too, `NOLOOP` or not.
///
/// # Panics
///
/// On a script that the library does not send, so that a new one is noticed.
pub(super) fn evaluate(
    state: &mut State,
    client: u64,
    script: &str,
    key: &str,
    arguments: &[&str],
    output: &mut Output,
    now: Duration,
) {
    if script.starts_with("local held = redis.call('GET', KEYS[1])") {
        output.int(i64::from(compare_and_set(state, client, key, arguments, now)));
    } else {
        panic!("the script {script:?} is not simulated");
    }
}

/// Replaces a value if it still is the expected one.
fn compare_and_set(state: &mut State, client: u64, key: &str, arguments: &[&str], now: Duration) -> bool {
    let [expects, expected, writes, value, millis] = arguments else {
        panic!("compare-and-set with {arguments:?} is not simulated")
    };
    state.touch(key, now);
    let held = state.present(key, now).value;
    if held.as_deref() != (*expects == "1").then_some(*expected) {
        return false;
    }
    if *writes == "1" && *millis == "keep" {
        let expires = state.present(key, now).expires;
        state.write_by_script(client, key, Some((*value).to_owned()), expires, now);
    } else if *writes == "1" {
        let ttl = (!millis.is_empty()).then(|| Duration::from_millis(millis.parse().expect("a time is a number")));
        state.write_by_script(client, key, Some((*value).to_owned()), ttl.map(|ttl| now + ttl), now);
    } else if held.is_some() {
        state.write_by_script(client, key, None, None, now);
    }
    true
}
