//! The fallback where tracking is refused: caches notify each other of their writes, over a channel of the namespace.

use std::sync::Arc;

use twotier_core::Namespace;

use crate::redis::listeners::{Listeners, Member};

/// The content of a message.
pub(in crate::redis) enum Message<'m> {
    /// Published by ourselves, about these keys.
    Own(Vec<&'m [u8]>),
    /// These keys changed.
    Keys(Vec<&'m [u8]>),
    /// Anything may have changed.
    Everything,
}

/// The channels of a link, one for each namespace, and our own name on them.
///
/// Each write is one transaction of the write and a `PUBLISH`, so messages come in the order of the writes. We receive
/// our own messages too, and know them by the name: the cache keeps track of its own writes.
pub(in crate::redis) struct Channels {
    listeners: Arc<Listeners>,
    /// Random, chosen anew for each link: what an older connection of ours still had under way is foreign to this one.
    sender: [u8; 16],
}

/// Announces that keys follow.
const KEYS: u8 = b'k';

impl Channels {
    pub(in crate::redis) fn new(listeners: Arc<Listeners>) -> Self {
        Self { listeners, sender: fastrand::u128(..).to_be_bytes() }
    }

    /// Returns the name of a namespace's channel.
    pub(in crate::redis) fn name(namespace: &Namespace) -> Vec<u8> {
        namespace.qualify("\u{1}changes")
    }

    /// Returns channels and messages that announce changes of these keys: one for each namespace. A key of none is
    /// announced to nobody, nor is one of a cache that is reported nothing.
    pub(in crate::redis) fn messages<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut by_namespace: Vec<(Arc<Member>, Vec<&[u8]>)> = Vec::new();
        for key in keys {
            let Some(member) = self.listeners.of(key).filter(|member| member.is_reported()) else { continue };
            match by_namespace.iter_mut().find(|(other, _)| Arc::ptr_eq(other, &member)) {
                Some((_, keys)) => keys.push(key),
                None => by_namespace.push((member, vec![key])),
            }
        }
        let message = |(member, keys): (Arc<Member>, Vec<&[u8]>)| (Self::name(member.namespace()), self.message(keys));
        by_namespace.into_iter().map(message).collect()
    }

    /// A message: sender, kind, and for each key its length in four bytes (big endian) and the key.
    pub(in crate::redis) fn message<'k>(&self, keys: impl IntoIterator<Item = &'k [u8]>) -> Vec<u8> {
        let mut message = self.sender.to_vec();
        message.push(KEYS);
        for key in keys {
            // A key is at most a few hundred bytes longer than `MAX_KEY_BYTES`.
            message.extend_from_slice(&u32::try_from(key.len()).unwrap_or(u32::MAX).to_be_bytes());
            message.extend_from_slice(key);
        }
        message
    }

    /// Reads a message. What is not one is taken as "everything": whoever wrote it meant to report something.
    pub(in crate::redis) fn read<'m>(&self, message: &'m [u8]) -> Message<'m> {
        let Some((sender, rest)) = message.split_first_chunk::<16>() else { return Message::Everything };
        let Some(keys) = split(rest) else { return Message::Everything };
        if *sender == self.sender { Message::Own(keys) } else { Message::Keys(keys) }
    }
}

fn split(message: &[u8]) -> Option<Vec<&[u8]>> {
    let (&KEYS, mut rest) = message.split_first()? else { return None };
    let mut keys = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (key, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        keys.push(key);
        rest = after;
    }
    rest.is_empty().then_some(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Channels, Channels) {
        (Channels::new(Arc::default()), Channels::new(Arc::default()))
    }

    #[test]
    fn keys_of_any_bytes_are_read_back_and_our_own_are_known() {
        let (ours, theirs) = pair();
        let keys: [&[u8]; 4] = [b"n:a", b"", b"n:\0\xff", &[7; 1500]];
        let message = theirs.message(keys);
        assert!(matches!(ours.read(&message), Message::Keys(read) if read == keys));
        assert!(matches!(theirs.read(&message), Message::Own(read) if read == keys));
    }

    #[test]
    fn every_malformed_message_is_taken_as_everything() {
        let (ours, theirs) = pair();
        let message = theirs.message([&b"n:key"[..]]);
        for length in (0..message.len()).filter(|length| *length != 17) {
            assert!(matches!(ours.read(&message[..length]), Message::Everything), "cut to {length}");
        }
        let mut unknown = message;
        unknown[16] = b'?';
        assert!(matches!(ours.read(&unknown), Message::Everything));
        let huge = [&theirs.sender[..], b"k\xff\xff\xff\xffx"].concat();
        assert!(matches!(ours.read(&huge), Message::Everything));
    }
}
