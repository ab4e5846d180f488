//! A blocking client for RESP2, as small as it can be.
//!
//! It shares nothing with the client library that the backend is built on: what it reads is what any other program
//! would read.

use std::{
    fmt,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

/// The longest a reply may take. A test that waits longer has hung.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `+OK` and the like.
    Simple(String),
    /// `-ERR …`, without the minus.
    Error(String),
    /// `:42`.
    Int(i64),
    /// A string of any bytes.
    Bulk(Vec<u8>),
    /// The null string or the null array.
    Nil,
    /// Several replies.
    Array(Vec<Self>),
}

impl Reply {
    /// Returns whether there was nothing.
    #[must_use]
    pub fn is_nil(&self) -> bool {
        *self == Self::Nil
    }

    /// Returns whether the answer was `OK`.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        matches!(self, Self::Simple(text) if text == "OK")
    }

    /// Returns whether the server refused.
    #[must_use]
    pub fn is_error(&self) -> bool {
        matches!(self, Self::Error(_))
    }

    /// Returns the number, or fails the test.
    #[must_use]
    #[track_caller]
    pub fn as_int(&self) -> i64 {
        match self {
            Self::Int(number) => *number,
            other => panic!("the server answered {other:?}, not a number"),
        }
    }

    /// Returns the bytes of a string, or fails the test.
    #[must_use]
    #[track_caller]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Bulk(bytes) => bytes,
            Self::Simple(text) => text.as_bytes(),
            other => panic!("the server answered {other:?}, not a string"),
        }
    }

    /// Returns the text of a string, or fails the test.
    #[must_use]
    #[track_caller]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("the server's answer is text")
    }

    /// Returns the parts of an array, or fails the test.
    #[must_use]
    #[track_caller]
    pub fn as_array(&self) -> &[Self] {
        match self {
            Self::Array(parts) => parts,
            other => panic!("the server answered {other:?}, not an array"),
        }
    }
}

/// A connection of its own to a server.
pub struct Client {
    stream: BufReader<Stream>,
}

impl Client {
    /// Connects by TCP.
    ///
    /// # Errors
    ///
    /// When nobody listens there.
    pub fn tcp(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(Stream::Tcp(stream)) })
    }

    /// Connects by a unix socket.
    ///
    /// # Errors
    ///
    /// When nobody listens there.
    pub fn unix(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(Stream::Unix(stream)) })
    }

    /// Sends a command and returns the answer, or fails the test when there is none.
    #[track_caller]
    pub fn command<W: AsRef<[u8]>>(&mut self, words: &[W]) -> Reply {
        match self.try_command(words) {
            Ok(reply) => reply,
            Err(error) => panic!("the server did not answer: {error}"),
        }
    }

    /// Sends a command and returns the answer.
    ///
    /// # Errors
    ///
    /// When the connection is lost, or there is no answer within ten seconds. The client is of no use after that.
    pub fn try_command<W: AsRef<[u8]>>(&mut self, words: &[W]) -> io::Result<Reply> {
        self.send(words)?;
        self.receive()
    }

    /// Sends a command without waiting for the answer.
    ///
    /// # Errors
    ///
    /// When the connection is lost.
    pub fn send<W: AsRef<[u8]>>(&mut self, words: &[W]) -> io::Result<()> {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words.iter().map(AsRef::as_ref) {
            request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            request.extend_from_slice(word);
            request.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&request)
    }

    /// Waits for the next answer.
    ///
    /// # Errors
    ///
    /// When the connection is lost, or there is no answer within ten seconds.
    pub fn receive(&mut self) -> io::Result<Reply> {
        read_reply(&mut self.stream)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// Either kind of socket.
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads one reply: <https://redis.io/docs/latest/develop/reference/protocol-spec/>.
fn read_reply(stream: &mut impl BufRead) -> io::Result<Reply> {
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line)?;
    let line = line.strip_suffix(b"\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let (kind, rest) = line.split_first().ok_or_else(|| malformed("an empty line"))?;
    let text = String::from_utf8_lossy(rest).into_owned();
    let number = || text.parse::<i64>().map_err(|error| malformed(&error.to_string()));
    Ok(match kind {
        b'+' => Reply::Simple(text),
        b'-' => Reply::Error(text),
        b':' => Reply::Int(number()?),
        b'$' => match usize::try_from(number()?) {
            Err(_negative) => Reply::Nil,
            Ok(length) => {
                let mut bytes = vec![0; length + 2];
                stream.read_exact(&mut bytes)?;
                bytes.truncate(length);
                Reply::Bulk(bytes)
            }
        },
        b'*' => match usize::try_from(number()?) {
            Err(_negative) => Reply::Nil,
            Ok(length) => Reply::Array((0..length).map(|_| read_reply(stream)).collect::<io::Result<_>>()?),
        },
        other => return Err(malformed(&format!("type byte {other:#x}"))),
    })
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed reply: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mut bytes: &[u8]) -> io::Result<Reply> {
        read_reply(&mut bytes)
    }

    #[test]
    fn every_type_of_reply_is_read() {
        assert_eq!(read(b"+OK\r\n").unwrap(), Reply::Simple("OK".to_owned()));
        assert_eq!(read(b"-ERR no\r\n").unwrap(), Reply::Error("ERR no".to_owned()));
        assert_eq!(read(b":-7\r\n").unwrap(), Reply::Int(-7));
        assert_eq!(read(b"$4\r\na\r\nb\r\n").unwrap(), Reply::Bulk(b"a\r\nb".to_vec()));
        assert_eq!(read(b"$0\r\n\r\n").unwrap(), Reply::Bulk(vec![]));
        assert_eq!(read(b"$-1\r\n").unwrap(), Reply::Nil);
        assert_eq!(read(b"*-1\r\n").unwrap(), Reply::Nil);
        assert_eq!(
            read(b"*2\r\n:1\r\n*1\r\n$-1\r\n").unwrap(),
            Reply::Array(vec![Reply::Int(1), Reply::Array(vec![Reply::Nil])])
        );
    }

    #[test]
    fn half_a_reply_and_garbage_are_errors() {
        for bytes in [&b""[..], b"+OK", b"+OK\n", b"$5\r\nab", b":x\r\n", b"?\r\n", b"\r\n", b"*2\r\n:1\r\n"] {
            assert!(read(bytes).is_err(), "{bytes:?}");
        }
    }
}
