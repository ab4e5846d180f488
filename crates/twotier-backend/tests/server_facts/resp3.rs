//! A client for RESP3 that sees pushes where they come, between the replies.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::TcpStream,
    time::Duration,
};

use twotier_testkit::RedisServer;

/// How long to wait for what must come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Anything a server sends.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Message {
    Text(String),
    Error(String),
    Number(i64),
    Nothing,
    Many(Vec<Self>),
    Push(Vec<Self>),
}

impl Message {
    /// Reads an invalidation: its keys, `None` for everything.
    #[track_caller]
    pub(crate) fn invalidated(&self) -> Option<Vec<String>> {
        match self {
            Self::Push(parts) if parts.len() == 2 && parts[0] == Self::text("invalidate") => match &parts[1] {
                Self::Many(keys) => Some(keys.iter().map(|key| key.as_text().to_owned()).collect()),
                Self::Nothing => None,
                other => panic!("the payload of an invalidation is {other:?}"),
            },
            other => panic!("{other:?} is no invalidation"),
        }
    }

    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    #[track_caller]
    pub(crate) fn as_text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            other => panic!("{other:?} is no text"),
        }
    }

    /// Returns a field of a map, which is read as an array of keys and values.
    #[track_caller]
    pub(crate) fn field(&self, name: &str) -> &Self {
        let Self::Many(parts) = self else { panic!("{self:?} is no map") };
        parts.chunks(2).find(|pair| pair[0] == Self::text(name)).map(|pair| &pair[1]).expect("the field is there")
    }
}

/// A connection.
pub(crate) struct Raw {
    stream: BufReader<TcpStream>,
}

impl Raw {
    /// Connects and asks for RESP3.
    pub(crate) fn connect(server: &RedisServer) -> Self {
        let stream = TcpStream::connect(server.addr()).expect("the server takes connections");
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut raw = Self { stream: BufReader::new(stream) };
        raw.ask(&["HELLO", "3"]);
        raw
    }

    /// Connects and turns on tracking as the library does, for the prefix `n:`.
    pub(crate) fn tracked(server: &RedisServer) -> Self {
        let mut raw = Self::connect(server);
        let on = raw.ask(&["CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "n:", "NOLOOP"]);
        assert_eq!(on, Message::text("OK"));
        raw
    }

    /// Sends commands in one segment.
    pub(crate) fn send(&mut self, commands: &[&[&str]]) {
        let mut bytes = Vec::new();
        for words in commands {
            bytes.extend(format!("*{}\r\n", words.len()).bytes());
            for word in *words {
                bytes.extend(format!("${}\r\n{word}\r\n", word.len()).bytes());
            }
        }
        self.stream.get_mut().write_all(&bytes).expect("the connection is there");
    }

    /// Waits for whatever comes next.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Message {
        match read(&mut self.stream) {
            Ok(message) => message,
            Err(error) => panic!("the server did not answer: {error}"),
        }
    }

    /// Sends a command, and passes over what is pushed before its reply.
    pub(crate) fn ask_past_pushes(&mut self, words: &[&str]) -> Message {
        self.send(&[words]);
        loop {
            match self.next() {
                Message::Push(_) => {}
                reply => return reply,
            }
        }
    }

    /// Sends a command and returns its reply. Nothing may be pushed before it.
    #[track_caller]
    pub(crate) fn ask(&mut self, words: &[&str]) -> Message {
        self.send(&[words]);
        let message = self.next();
        assert!(!matches!(message, Message::Push(_)), "pushed before the reply to {words:?}: {message:?}");
        message
    }

    /// Sends a command and returns everything it pushes, before its reply or after. The reply is no error.
    #[track_caller]
    pub(crate) fn pushed_by(&mut self, words: &[&str]) -> Vec<Message> {
        self.send(&[words]);
        let mut pushes = Vec::new();
        loop {
            match self.next() {
                push @ Message::Push(_) => pushes.push(push),
                Message::Error(error) => panic!("{words:?}: {error}"),
                _reply => break,
            }
        }
        pushes.extend(self.pushed());
        pushes
    }

    /// Returns everything pushed so far: two requests, one after the other, and what comes before their replies.
    #[track_caller]
    pub(crate) fn pushed(&mut self) -> Vec<Message> {
        let mut pushes = Vec::new();
        for fence in ["first fence", "second fence"] {
            self.send(&[&["PING", fence]]);
            loop {
                match self.next() {
                    push @ Message::Push(_) => pushes.push(push),
                    reply => {
                        assert_eq!(reply, Message::text(fence));
                        break;
                    }
                }
            }
        }
        pushes
    }

    /// Returns the keys pushed so far, in order. A push for everything fails the test.
    #[track_caller]
    pub(crate) fn keys_pushed(&mut self) -> Vec<String> {
        let pushes = self.pushed();
        pushes.iter().flat_map(|push| push.invalidated().expect("not everything is invalidated")).collect()
    }
}

fn read(stream: &mut impl BufRead) -> io::Result<Message> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let line = line.strip_suffix("\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let (kind, rest) = line.split_at_checked(1).ok_or(io::ErrorKind::InvalidData)?;
    let number = || rest.parse::<i64>().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error));
    Ok(match kind {
        "+" | "," | "#" | "(" => Message::text(rest),
        "-" => Message::Error(rest.to_owned()),
        ":" => Message::Number(number()?),
        "_" => Message::Nothing,
        "$" | "=" | "!" => match usize::try_from(number()?) {
            Err(_negative) => Message::Nothing,
            Ok(length) => {
                let mut bytes = vec![0; length + 2];
                stream.read_exact(&mut bytes)?;
                bytes.truncate(length);
                Message::Text(String::from_utf8_lossy(&bytes).into_owned())
            }
        },
        "*" | "~" | ">" | "%" => match usize::try_from(number()?) {
            Err(_negative) => Message::Nothing,
            Ok(length) => {
                let length = if kind == "%" { 2 * length } else { length };
                let parts = (0..length).map(|_| read(stream)).collect::<io::Result<_>>()?;
                if kind == ">" { Message::Push(parts) } else { Message::Many(parts) }
            }
        },
        other => return Err(io::Error::new(io::ErrorKind::InvalidData, format!("type byte {other}"))),
    })
}
