//! RESP3 as a server reads and writes it.

/// A command with its arguments.
pub(super) type Command = Vec<Vec<u8>>;

/// Takes the first whole command off the buffer, `None` while it is not whole.
///
/// # Panics
///
/// On anything but an array of bulk strings: no client under test sends that.
pub(super) fn take_command(buffer: &mut Vec<u8>) -> Option<Command> {
    let mut rest = &buffer[..];
    let count = header(&mut rest, b'*')?;
    let mut command = Vec::with_capacity(count);
    for _ in 0..count {
        let length = header(&mut rest, b'$')?;
        if rest.len() < length + 2 {
            return None;
        }
        command.push(rest[..length].to_vec());
        rest = &rest[length + 2..];
    }
    let used = buffer.len() - rest.len();
    buffer.drain(..used);
    Some(command)
}

fn header(rest: &mut &[u8], kind: u8) -> Option<usize> {
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    assert_eq!(rest[0], kind, "a command is an array of bulk strings");
    let length = std::str::from_utf8(&rest[1..end]).ok()?.parse().expect("a length is a number");
    *rest = &rest[end + 2..];
    Some(length)
}

/// Writes replies and pushes.
#[derive(Debug, Default)]
pub(super) struct Output(pub(super) Vec<u8>);

impl Output {
    pub(super) fn okay(&mut self) {
        self.simple("OK");
    }

    pub(super) fn simple(&mut self, text: &str) {
        self.line('+', text);
    }

    pub(super) fn error(&mut self, text: &str) {
        self.line('-', text);
    }

    pub(super) fn int(&mut self, number: i64) {
        self.line(':', &number.to_string());
    }

    pub(super) fn null(&mut self) {
        self.line('_', "");
    }

    pub(super) fn bulk(&mut self, bytes: &[u8]) {
        self.line('$', &bytes.len().to_string());
        self.0.extend_from_slice(bytes);
        self.0.extend_from_slice(b"\r\n");
    }

    pub(super) fn bulk_or_null(&mut self, value: Option<&str>) {
        match value {
            Some(value) => self.bulk(value.as_bytes()),
            None => self.null(),
        }
    }

    pub(super) fn array(&mut self, length: usize) {
        self.line('*', &length.to_string());
    }

    pub(super) fn map(&mut self, pairs: usize) {
        self.line('%', &pairs.to_string());
    }

    pub(super) fn set(&mut self, length: usize) {
        self.line('~', &length.to_string());
    }

    /// The push of an invalidation: of these keys, or of everything.
    pub(super) fn invalidate(&mut self, keys: Option<&[&str]>) {
        self.line('>', "2");
        self.bulk(b"invalidate");
        match keys {
            None => self.null(),
            Some(keys) => {
                self.array(keys.len());
                for key in keys {
                    self.bulk(key.as_bytes());
                }
            }
        }
    }

    fn line(&mut self, kind: char, text: &str) {
        self.0.extend_from_slice(format!("{kind}{text}\r\n").as_bytes());
    }
}
