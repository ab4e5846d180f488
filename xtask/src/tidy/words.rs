//! The words and names for which the field has others, in every source and document.

use std::path::Path;

use super::{documents, read, shown, sources};
use crate::failure::Outcome;

/// Words that stand nowhere, not as a part of a name either, and what to write. Put together here so that this file
/// does not hold them itself.
const WORDS: &[(&str, &str)] = &[
    (concat!("to", "ld"), "notified, received or returned"),
    (concat!("unto", "ld"), "not notified"),
    (concat!("he", "ar"), "receive"),
    (concat!("he", "ars"), "receives"),
    (concat!("he", "ard"), "received"),
    (concat!("unhe", "ard"), "not received"),
    (concat!("e", "ar"), "listener"),
    (concat!("e", "ars"), "listener"),
    (concat!("si", "ng"), "probe"),
    (concat!("brea", "the"), "yield"),
];

/// What nothing is called in code, though it may be a word of a sentence, and what it is called.
const NAMES: &[(&str, &str)] = &[
    ("Question", "BatchRead"),
    ("question", "the request"),
    ("Answer", "ReadResult"),
    ("is_it", "matches"),
    ("apart", "read_connection"),
    ("wants_apart", "read_connection"),
    ("early_lookup", "lookup_local"),
    ("Kept", "CachedValue"),
    ("Seat", "BatchSlot"),
    ("seat", "slot"),
    ("Sending", "BatchSender"),
    ("Turn", "Permit"),
    ("Stub", "TicketState"),
    ("stub", "state"),
    ("Claim", "TicketId"),
    ("claim", "ticket"),
    ("Moment", "a time"),
    ("moment", "a time"),
    ("Begun", "FillStart"),
    ("begun", "start"),
    ("Asking", "FillRequest"),
    ("asking", "request"),
    ("Worthless", "DeadReason"),
];

/// What is wrong with the words of sources and documents.
pub(super) fn check(root: &Path) -> Outcome<Vec<String>> {
    let mut broken = Vec::new();
    for path in sources(root)?.into_iter().chain(documents(root)?) {
        let code = if path.extension().is_some_and(|ending| ending == "rs") { code } else { quoted };
        for (index, line) in read(&path)?.lines().enumerate() {
            for (word, instead) in found(line, &code(line)) {
                broken.push(format!("{}:{}: not `{word}`: {instead}", shown(root, &path), index + 1));
            }
        }
    }
    Ok(broken)
}

/// Returns what a line must not hold, with what to write; `code` is the part of it that is code.
fn found(line: &str, code: &str) -> Vec<(&'static str, &'static str)> {
    let in_text = line.split(|c: char| !c.is_alphanumeric()).filter_map(|word| {
        let word = word.to_lowercase();
        WORDS.iter().find(|(wrong, _)| *wrong == word)
    });
    let in_code = code
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter_map(|name| NAMES.iter().find(|(wrong, _)| *wrong == name));
    in_text.chain(in_code).copied().collect()
}

/// Returns a line of Rust without the text of its strings and its comment.
fn code(line: &str) -> String {
    let (mut code, mut rest) = (String::new(), line);
    while let Some(at) = rest.find(['"', '/']) {
        code.push_str(&rest[..at]);
        rest = &rest[at..];
        if rest.starts_with("//") {
            return code;
        }
        let text = rest.starts_with('"');
        rest = &rest[1..];
        if text {
            rest = after_text(rest);
            code.push(' ');
        }
    }
    code + rest
}

/// Returns what follows the string that a line goes on with.
fn after_text(line: &str) -> &str {
    let mut escaped = false;
    let end = line.find(|c: char| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    end.map_or("", |end| &line[end + 1..])
}

/// Returns what a line of Markdown has between back quotes.
fn quoted(line: &str) -> String {
    line.split('`').skip(1).step_by(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_in_text_and_as_parts_of_names() {
        let word = WORDS[0].0;
        for line in [
            format!("// Whoever waits is {word}."),
            format!("fn everybody_is_{word}() {{"),
            format!("const {}_IN_FULL: usize = 5;", word.to_uppercase()),
            format!("panic!(\"{word} {{outcome:?}}\")"),
        ] {
            assert_eq!(found(&line, &code(&line)).len(), 1, "{line}");
        }
        let line = "// Heartbeats are years apart, singly, and clear.";
        assert_eq!(found(line, &code(line)), []);
    }

    #[test]
    fn names_are_found_in_code_alone() {
        for line in
            ["struct Moment(u64);", "self.stub.key", "fn f(asking: &str) { \"//\" }", "let a = \"\\\"\" / moment;"]
        {
            assert_eq!(found(line, &code(line)).len(), 1, "{line}");
        }
        for line in ["// Kept as it is for a moment.", "what(\"the question is \\\" moot\")", "let momentum = 1;"] {
            assert_eq!(found(line, &code(line)), [], "{line}");
        }
        let line = "Kept for a moment in `Stub::key`.";
        assert_eq!(found(line, &quoted(line)).len(), 1);
    }
}
