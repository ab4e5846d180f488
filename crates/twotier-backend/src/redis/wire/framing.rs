//! The frames of RESP3, followed as they arrive: what the parser behind it must never see is stopped or mended here.

/// The largest value that is read: what a server holds at most by its own default (`proto-max-bulk-len`).
const MAX_BULK: u64 = 512 * 1024 * 1024 + 1024;
/// The longest line: a type and a number, or a message of the server's.
const MAX_LINE: usize = 64 * 1024;
/// The deepest nesting.
const MAX_DEPTH: usize = 32;

/// Why a connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// A value is larger than any that could be kept.
    TooLarge,
    /// The peer speaks TLS.
    Tls,
    /// Nothing that RESP allows.
    NotResp,
}

/// Follows a stream of frames, in pieces of any length.
#[derive(Debug, Default)]
pub(super) struct Framing {
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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    Positive,
    Negative,
    NotANumber,
}

impl Framing {
    /// Returns how many whole replies have passed. Pushes are none.
    pub(super) fn replies(&self) -> u64 {
        self.replies
    }

    /// Follows some bytes. In messages of the server's it replaces what is not ASCII: they may quote what was sent, cut off
    /// anywhere, and the parser takes no text that is not UTF-8.
    pub(super) fn follow(&mut self, bytes: &mut [u8]) -> Result<(), Broken> {
        let mut next = 0;
        while next < bytes.len() {
            match &mut self.at {
                At::Bytes(left) => {
                    let here = (bytes.len() - next) as u64;
                    let taken = here.min(*left);
                    *left -= taken;
                    let ended = *left == 0;
                    // At most as many as there are here.
                    next += usize::try_from(taken).unwrap_or(usize::MAX);
                    if ended {
                        self.element_ended();
                    }
                }
                At::Type => {
                    self.begin(bytes[next])?;
                    next += 1;
                }
                At::Line { kind, length, number, sign, ended } => {
                    let byte = &mut bytes[next];
                    next += 1;
                    if *ended {
                        let (kind, number, sign) = (*kind, *number, *sign);
                        if *byte != b'\n' {
                            return Err(Broken::NotResp);
                        }
                        self.line_ended(kind, number, sign)?;
                        continue;
                    }
                    *length += 1;
                    match *byte {
                        b'\r' => *ended = true,
                        b'0'..=b'9' if *sign != Sign::NotANumber => {
                            *number = number.saturating_mul(10).saturating_add(u64::from(*byte - b'0'));
                        }
                        b'-' if *length == 1 => *sign = Sign::Negative,
                        other => {
                            *sign = Sign::NotANumber;
                            if !other.is_ascii() && matches!(*kind, b'-' | b'+') {
                                *byte = b'?';
                            }
                        }
                    }
                    if *length > MAX_LINE {
                        return Err(Broken::NotResp);
                    }
                }
            }
        }
        Ok(())
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
            b'$' | b'=' | b'!' => {
                match sign {
                    Sign::NotANumber => return Err(Broken::NotResp),
                    Sign::Positive if number > MAX_BULK => return Err(Broken::TooLarge),
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

    proptest! {
        #[test]
        fn every_frame_is_followed_to_its_end_in_pieces_of_any_length(
            which in proptest::collection::vec(0..FRAMES.len(), 1..20),
            pieces in proptest::collection::vec(1..9_usize, 1..200),
        ) {
            let (mut framing, mut replies, mut stream) = (Framing::default(), 0, Vec::new());
            for which in which {
                stream.extend_from_slice(FRAMES[which].0);
                replies += FRAMES[which].1;
            }
            let (sent, mut rest) = (stream.clone(), &mut stream[..]);
            for piece in pieces.into_iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at_mut(piece.min(rest.len()));
                prop_assert_eq!(framing.follow(now), Ok(()));
                rest = later;
            }
            prop_assert_eq!(framing.replies(), replies);
            prop_assert!(matches!(framing.at, At::Type));
            prop_assert_eq!(sent, stream);
        }
    }

    #[test]
    fn what_is_not_text_is_replaced_in_messages_and_kept_in_values() {
        let mut bytes = *b"-ERR \xff'\xc3\r\n$2\r\n\xff\xc3\r\n";
        assert_eq!(Framing::default().follow(&mut bytes), Ok(()));
        assert_eq!(&bytes, b"-ERR ?'?\r\n$2\r\n\xff\xc3\r\n");
    }

    #[test]
    fn a_value_of_absurd_length_and_a_stream_that_is_no_resp_are_broken() {
        let follow = |bytes: &[u8]| Framing::default().follow(&mut bytes.to_vec());
        assert_eq!(follow(b"$536870912\r\n"), Ok(()));
        assert_eq!(follow(b"$536879999\r\n"), Err(Broken::TooLarge));
        assert_eq!(follow(b"$99999999999999999999999\r\n"), Err(Broken::TooLarge));
        assert_eq!(follow(b"\x15\x03\x03\x00\x02\x02"), Err(Broken::Tls));
        for broken in [&b"HTTP/1.1 400"[..], b"$x\r\n", b"*1x\r\n", b"+OK\r+", b"\r\n", b"$?\r\n"] {
            assert_eq!(follow(broken), Err(Broken::NotResp), "{broken:?}");
        }
    }
}
