//! The frames of RESP3, followed as they pass: what the parser behind it must never see is stopped or mended here.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// The largest value there is: what a server holds at most by its own default (`proto-max-bulk-len`).
const MAX_BULK: u64 = 512 * 1024 * 1024 + 1024;
/// The least that is read whatever the caches on a link can use: the replies to a handshake may be as large.
const LEAST: u64 = 64 * 1024;

/// The largest value that is read, in bytes, as all connections of a link heed it: more from the moment on at which a
/// cache joins that can use more.
#[derive(Clone, Debug)]
pub(in crate::redis) struct ValueLimit(Arc<AtomicU64>);

impl ValueLimit {
    #[cfg(test)]
    fn of(bytes: u64) -> Self {
        Self(Arc::new(AtomicU64::new(bytes)))
    }

    /// No more than what is read in any case.
    pub(in crate::redis) fn least() -> Self {
        Self(Arc::new(AtomicU64::new(LEAST)))
    }

    /// Raises the limit to what one more cache can use, or sets it for the first one.
    pub(in crate::redis) fn admit(&self, bytes: usize, first: bool) {
        let bytes = (bytes as u64).clamp(LEAST, MAX_BULK);
        if first {
            self.0.store(bytes, Ordering::Relaxed);
        } else {
            self.0.fetch_max(bytes, Ordering::Relaxed);
        }
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Default for ValueLimit {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(MAX_BULK)))
    }
}
/// The longest line: a type and a number, or a message of the server's.
const MAX_LINE: usize = 64 * 1024;
/// The longest line that only has a length in it: more digits than any has.
pub(super) const MAX_LENGTH_LINE: usize = 24;
/// The deepest nesting.
const MAX_DEPTH: usize = 32;

/// Why a connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// A value is larger than any server holds.
    TooLarge,
    /// The peer speaks TLS.
    Tls,
    /// Nothing that RESP allows.
    NotResp,
}

/// Follows a stream of frames, in pieces of any length.
#[derive(Debug)]
pub(super) struct Framing {
    /// Larger values are passed over.
    max_bulk: ValueLimit,
    /// How many elements are still to come, for each aggregate that is open.
    open: Vec<u64>,
    at: At,
    /// Whether the frame that is open is a push.
    push: bool,
    replies: u64,
}

#[derive(Clone, Copy, Debug, Default)]
enum At {
    /// The first byte of an element comes next.
    #[default]
    Type,
    /// Within the line that an element begins with.
    Line { kind: u8, length: usize, number: u64, sign: Sign, ended: bool },
    /// Within the bytes of a value.
    Bytes(u64),
    /// Within the bytes of a value that is passed over.
    PassedOver(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    Positive,
    Negative,
    NotANumber,
}

/// Some bytes that were followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Followed {
    /// How many of them, from the first on, are for the parser.
    pub(super) kept: usize,
    /// How many more behind these are to be followed again, in front of what arrives next.
    pub(super) again: usize,
}

impl Framing {
    /// Passes over every value of more bytes than this.
    pub(super) fn new(max_bulk: ValueLimit) -> Self {
        Self { max_bulk, open: Vec::new(), at: At::Type, push: false, replies: 0 }
    }

    /// Returns how many whole replies have passed. Pushes are none.
    pub(super) fn replies(&self) -> u64 {
        self.replies
    }

    /// Follows some bytes, and moves those that the parser gets to their beginning.
    ///
    /// In messages of the server's it replaces what is not ASCII: they may quote what was sent, cut off anywhere, and
    /// the parser takes no text that is not UTF-8. In the place of a value that is too large it puts an error whose
    /// code is the length of the value, which takes just the room of the line that says the length: `$70000\r\n`
    /// becomes `-70000\r\n`. The line must not have gone to the parser before it is known, so one that is not whole is
    /// to be followed again.
    pub(super) fn follow(&mut self, bytes: &mut [u8]) -> Result<Followed, Broken> {
        let (mut next, mut kept) = (0, 0);
        // Where the line that is being followed begins, among what is kept.
        let mut line = 0;
        while next < bytes.len() {
            match self.at {
                At::Bytes(ref mut left) | At::PassedOver(ref mut left) => {
                    let here = (bytes.len() - next) as u64;
                    // At most as many as there are here.
                    let taken = usize::try_from(here.min(*left)).unwrap_or(usize::MAX);
                    *left -= taken as u64;
                    let ended = *left == 0;
                    if matches!(self.at, At::Bytes(_)) {
                        if kept < next {
                            bytes.copy_within(next..next + taken, kept);
                        }
                        kept += taken;
                    }
                    next += taken;
                    if ended {
                        self.element_ended();
                    }
                }
                At::Type => {
                    self.begin(bytes[next])?;
                    line = kept;
                    bytes[kept] = bytes[next];
                    (next, kept) = (next + 1, kept + 1);
                }
                At::Line { kind, mut length, mut number, mut sign, mut ended } => {
                    // In registers: this runs for every byte that is in no value.
                    let longest = if is_bulk(kind) { MAX_LENGTH_LINE } else { MAX_LINE };
                    let mut whole = false;
                    while next < bytes.len() && !whole {
                        let mut byte = bytes[next];
                        if ended {
                            if byte != b'\n' {
                                return Err(Broken::NotResp);
                            }
                            whole = true;
                        } else {
                            length += 1;
                            match byte {
                                b'0'..=b'9' if sign != Sign::NotANumber => {
                                    number = number.saturating_mul(10).saturating_add(u64::from(byte - b'0'));
                                }
                                b'\r' => ended = true,
                                b'-' if length == 1 => sign = Sign::Negative,
                                other => {
                                    sign = Sign::NotANumber;
                                    if !other.is_ascii() && matches!(kind, b'-' | b'+') {
                                        byte = b'?';
                                    }
                                }
                            }
                            if length > longest {
                                return Err(Broken::NotResp);
                            }
                        }
                        bytes[kept] = byte;
                        (next, kept) = (next + 1, kept + 1);
                    }
                    self.at = At::Line { kind, length, number, sign, ended };
                    if whole {
                        self.line_ended(kind, number, sign)?;
                        if let At::PassedOver(_) = self.at {
                            bytes[line] = b'-';
                        }
                    }
                }
            }
        }
        match self.at {
            At::Line { kind, .. } if is_bulk(kind) => {
                self.at = At::Type;
                Ok(Followed { kept: line, again: kept - line })
            }
            _ => Ok(Followed { kept, again: 0 }),
        }
    }

    fn begin(&mut self, kind: u8) -> Result<(), Broken> {
        match kind {
            // The first bytes of a TLS alert and of a handshake.
            0x15 | 0x16 if self.open.is_empty() => return Err(Broken::Tls),
            b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' | b'$' | b'=' | b'!' | b'*' | b'~' | b'%' | b'|' | b'>' => {}
            _ => return Err(Broken::NotResp),
        }
        if self.open.is_empty() {
            self.push = kind == b'>';
        }
        self.at = At::Line { kind, length: 0, number: 0, sign: Sign::Positive, ended: false };
        Ok(())
    }

    fn line_ended(&mut self, kind: u8, number: u64, sign: Sign) -> Result<(), Broken> {
        let elements = match kind {
            bulk if is_bulk(bulk) => {
                match sign {
                    Sign::NotANumber => return Err(Broken::NotResp),
                    Sign::Positive if number > MAX_BULK => return Err(Broken::TooLarge),
                    Sign::Positive if number > self.max_bulk.get() => self.at = At::PassedOver(number + 2),
                    Sign::Positive => self.at = At::Bytes(number + 2),
                    Sign::Negative => self.element_ended(),
                }
                return Ok(());
            }
            b'*' | b'~' | b'>' => number,
            b'%' => number.saturating_mul(2),
            // What an attribute is about follows it, as part of the same element.
            b'|' => number.saturating_mul(2).saturating_add(1),
            _ => {
                self.element_ended();
                return Ok(());
            }
        };
        match sign {
            Sign::NotANumber => Err(Broken::NotResp),
            Sign::Positive if elements > 0 => {
                if self.open.len() == MAX_DEPTH || elements > MAX_BULK {
                    return Err(Broken::NotResp);
                }
                self.open.push(elements);
                self.at = At::Type;
                Ok(())
            }
            Sign::Positive | Sign::Negative => {
                self.element_ended();
                Ok(())
            }
        }
    }

    fn element_ended(&mut self) {
        self.at = At::Type;
        while let Some(left) = self.open.last_mut() {
            *left -= 1;
            if *left > 0 {
                return;
            }
            self.open.pop();
        }
        if !self.push {
            self.replies += 1;
        }
    }
}

fn is_bulk(kind: u8) -> bool {
    matches!(kind, b'$' | b'=' | b'!')
}

/// Counts the commands in a stream of requests, in pieces of any length. Each is an array of bulk strings.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// How many arguments of the command that is open are still to come.
    arguments: u64,
    /// How many bytes of the argument that is open are still to come.
    bytes: u64,
    /// The number in the line that is open.
    number: u64,
}

impl Requests {
    /// Follows some bytes, and returns how many commands ended in them.
    pub(super) fn follow(&mut self, bytes: &[u8]) -> u64 {
        // In registers: this runs for every byte that is no argument.
        let Self { mut arguments, bytes: mut left, mut number } = *self;
        let (mut next, mut ended) = (0, 0);
        while next < bytes.len() {
            if left > 0 {
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - next);
                next += taken;
                left -= taken as u64;
                ended += u64::from(left == 0 && arguments == 0);
                continue;
            }
            let byte = bytes[next];
            next += 1;
            let digit = byte.wrapping_sub(b'0');
            if digit < 10 {
                number = 10 * number + u64::from(digit);
            } else if byte == b'\n' {
                if arguments == 0 {
                    arguments = number;
                } else {
                    arguments -= 1;
                    left = number + 2;
                }
                number = 0;
            }
            // Else a type, or the end of a line.
        }
        *self = Self { arguments, bytes: left, number };
        ended
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FRAMES: &[(&[u8], u64)] = &[
        (b"+OK\r\n", 1),
        (b":-12\r\n", 1),
        (b"$5\r\nab\r\nc\r\n", 1),
        (b"$0\r\n\r\n", 1),
        (b"$-1\r\n", 1),
        (b"*-1\r\n", 1),
        (b"_\r\n", 1),
        (b"*0\r\n", 1),
        (b"*2\r\n$1\r\na\r\n*1\r\n:1\r\n", 1),
        (b"%1\r\n+role\r\n~2\r\n,1.5\r\n#t\r\n", 1),
        (b">2\r\n$10\r\ninvalidate\r\n*1\r\n$3\r\nn:a\r\n", 0),
        (b">2\r\n+invalidate\r\n_\r\n", 0),
        (b"|1\r\n+ttl\r\n:3600\r\n$1\r\nx\r\n", 1),
        (b"-ERR no\r\n", 1),
        (b"!3\r\nERR\r\n", 1),
        (b"(12345678901234567890123\r\n", 1),
    ];

    /// Follows a stream in pieces, as its reader does; returns what the parser gets.
    fn follow_in_pieces(framing: &mut Framing, stream: &[u8], pieces: &[usize]) -> Result<Vec<u8>, Broken> {
        let (mut parsed, mut again, mut rest) = (Vec::new(), Vec::new(), stream);
        for piece in pieces.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at(rest.len().min(*piece));
            let mut bytes = [&again[..], now].concat();
            let followed = framing.follow(&mut bytes)?;
            assert!(followed.again <= MAX_LENGTH_LINE + 2);
            parsed.extend_from_slice(&bytes[..followed.kept]);
            again = bytes[followed.kept..followed.kept + followed.again].to_vec();
            rest = later;
        }
        parsed.extend(again);
        Ok(parsed)
    }

    proptest! {
        #[test]
        fn every_frame_is_followed_to_its_end_in_pieces_of_any_length(
            which in proptest::collection::vec(0..FRAMES.len(), 1..20),
            pieces in proptest::collection::vec(1..9_usize, 1..200),
        ) {
            let (mut framing, mut replies, mut stream) = (Framing::new(ValueLimit::default()), 0, Vec::new());
            for which in which {
                stream.extend_from_slice(FRAMES[which].0);
                replies += FRAMES[which].1;
            }
            let parsed = follow_in_pieces(&mut framing, &stream, &pieces);
            prop_assert_eq!(framing.replies(), replies);
            prop_assert!(matches!(framing.at, At::Type));
            prop_assert_eq!(parsed, Ok(stream));
        }

        #[test]
        fn a_value_that_is_too_large_is_an_error_in_its_place_and_everything_else_is_as_it_was(
            lengths in proptest::collection::vec(0..40_usize, 1..20),
            max in 0..40_usize,
            nested in any::<bool>(),
            pieces in proptest::collection::vec(1..9_usize, 1..200),
        ) {
            let (mut stream, mut expected) = (Vec::new(), Vec::new());
            for (index, length) in lengths.iter().enumerate() {
                let header = if nested { format!("*2\r\n:{index}\r\n") } else { String::new() };
                let value = format!("${length}\r\n{}\r\n", "$".repeat(*length));
                stream.extend(format!("{header}{value}").into_bytes());
                let value = if *length > max { format!("-{length}\r\n") } else { value };
                expected.extend(format!("{header}{value}").into_bytes());
            }
            let mut framing = Framing::new(ValueLimit::of(max as u64));
            prop_assert_eq!(follow_in_pieces(&mut framing, &stream, &pieces), Ok(expected));
            prop_assert_eq!(framing.replies(), lengths.len() as u64);
        }

        #[test]
        fn every_command_is_counted_when_its_last_byte_is_written(
            commands in proptest::collection::vec(proptest::collection::vec("[*$0-9\r\n]{0,12}", 1..5), 1..20),
            pieces in proptest::collection::vec(1..9_usize, 1..200),
        ) {
            let (mut stream, mut ends) = (Vec::new(), Vec::new());
            for command in &commands {
                let arguments = command.iter().map(|argument| format!("${}\r\n{argument}\r\n", argument.len()));
                stream.extend(format!("*{}\r\n{}", command.len(), arguments.collect::<String>()).into_bytes());
                ends.push(stream.len());
            }
            let (mut requests, mut counted, mut written) = (Requests::default(), 0, 0);
            for piece in pieces.into_iter().cycle() {
                if written == stream.len() {
                    break;
                }
                let end = (written + piece).min(stream.len());
                counted += requests.follow(&stream[written..end]);
                written = end;
                prop_assert_eq!(counted, ends.iter().filter(|end| **end <= written).count() as u64);
            }
        }
    }

    #[test]
    fn what_is_not_text_is_replaced_in_messages_and_kept_in_values() {
        let mut bytes = *b"-ERR \xff'\xc3\r\n$2\r\n\xff\xc3\r\n";
        let kept = bytes.len();
        assert_eq!(Framing::new(ValueLimit::default()).follow(&mut bytes), Ok(Followed { kept, again: 0 }));
        assert_eq!(&bytes, b"-ERR ?'?\r\n$2\r\n\xff\xc3\r\n");
    }

    #[test]
    fn a_value_of_absurd_length_and_a_stream_that_is_no_resp_are_broken() {
        let follow = |bytes: &[u8]| Framing::new(ValueLimit::default()).follow(&mut bytes.to_vec()).map(drop);
        assert_eq!(follow(b"$536870912\r\n"), Ok(()));
        assert_eq!(follow(b"$536879999\r\n"), Err(Broken::TooLarge));
        assert_eq!(follow(b"$9999999999999999999999\r\n"), Err(Broken::TooLarge));
        assert_eq!(follow(b"\x15\x03\x03\x00\x02\x02"), Err(Broken::Tls));
        for broken in [
            &b"HTTP/1.1 400"[..],
            b"$x\r\n",
            b"*1x\r\n",
            b"+OK\r+",
            b"\r\n",
            b"$?\r\n",
            b"$000000000000000000000000001",
        ] {
            assert_eq!(follow(broken), Err(Broken::NotResp), "{broken:?}");
        }
    }
}
