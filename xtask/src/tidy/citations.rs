//! The tests that the documents name.

use std::{collections::HashSet, path::Path};

use super::{documents, read, shown, sources};
use crate::failure::Outcome;

/// The fewest words of a test's name. What else is cited by a name in lower case has fewer.
const WORDS: usize = 6;

/// Which of the tests that are cited are not there.
pub(super) fn check(root: &Path) -> Outcome<Vec<String>> {
    let mut there = HashSet::new();
    for path in sources(root)? {
        there.extend(tests(&read(&path)?).map(str::to_owned));
    }
    let mut broken = Vec::new();
    for path in documents(root)? {
        for (index, line) in read(&path)?.lines().enumerate() {
            for name in cited(line).filter(|name| !there.contains(*name)) {
                broken.push(format!("{}:{}: there is no test `{name}`", shown(root, &path), index + 1));
            }
        }
    }
    Ok(broken)
}

/// Returns the names of tests that a line of Markdown has in back quotes.
fn cited(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2).filter(|name| {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        name.chars().all(plain) && name.split('_').count() >= WORDS
    })
}

/// Returns the names of the tests of a source.
fn tests(source: &str) -> impl Iterator<Item = &str> {
    let mut test = false;
    source.lines().map(str::trim_start).filter_map(move |line| {
        if line.starts_with("#[") {
            test |= line.contains("test");
            return None;
        }
        let is_test = std::mem::take(&mut test);
        let name = line.trim_start_matches("async ").strip_prefix("fn ")?;
        is_test.then(|| name.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tests_are_distinguished_from_other_names() {
        let line = "`get_many_or_load` is in `a_b_c_d_e_f`, `Some::a_b_c_d_e_f` and a_b_c_d_e_f (`b_c_d_e_f_1`)";
        assert_eq!(cited(line).collect::<Vec<_>>(), ["a_b_c_d_e_f", "b_c_d_e_f_1"]);
    }

    #[test]
    fn only_functions_with_the_attribute_of_a_test_are_tests() {
        let source = "#[test]\nfn one() {\n    #[tokio::test(start_paused = true)]\n    #[allow(dead_code)]\n    \
                      async fn two() {}\nfn helper() {}\n#[test]\nstruct A;\nfn not_one() {}\n";
        assert_eq!(tests(source).collect::<Vec<_>>(), ["one", "two"]);
    }
}
