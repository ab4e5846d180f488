//! How deep a value is nested is bounded, whoever wrote it: no bytes and no value end the process by a stack overflow.

use std::{fmt::Debug, iter::repeat_n};

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use twotier::{
    Cache, Codec, CodecError, ErrorKind, MemoryBackend,
    codec::{Json, MessagePack, Postcard, Raw, Sealed},
};

/// Far more than a stack of 2 MiB has room for.
const DEEP: usize = 4 << 20;
/// What the documentation promises.
const LEVELS: usize = 127;

/// Takes a byte a level in Postcard, and none in JSON and MessagePack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct List(Option<Box<Self>>);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Tree(Vec<Self>);

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Node {
    next: Option<Box<Self>>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Term {
    End,
    Newtype(Box<Self>),
    Tuple(u8, Box<Self>),
    Struct { inner: Box<Self> },
}

/// Writes bytes as they are into the envelope of another codec.
struct Forged(u16);

impl Codec<Bytes> for Forged {
    fn encode(&self, value: &Bytes) -> Result<Bytes, CodecError> {
        Raw.encode(value)
    }

    fn decode(&self, bytes: &Bytes) -> Result<Bytes, CodecError> {
        Raw.decode(bytes)
    }

    fn id(&self) -> u16 {
        self.0
    }
}

/// Reads bytes that somebody wrote, plain and in an envelope.
async fn read_deep<V>(codec: impl Codec<V> + Copy, bytes: impl Iterator<Item = u8>)
where
    V: Debug + Send + Sync + 'static,
{
    let store = MemoryBackend::new();
    let bytes: Bytes = bytes.collect();
    let raw = Cache::<Bytes>::builder().codec(Raw).build(store.clone()).await.unwrap();
    raw.set("plain", bytes.clone()).await.unwrap();
    let forged = Cache::<Bytes>::builder().codec(Sealed::new(Forged(codec.id()))).build(store.clone()).await.unwrap();
    forged.set("sealed", bytes).await.unwrap();
    let plain = Cache::<V>::builder().codec(codec).build(store.clone()).await.unwrap();
    let error = plain.get("plain").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Codec);
    let reason = std::error::Error::source(&error).unwrap().to_string();
    assert!(reason.contains("deeper than 127 levels") || reason.contains("recursion limit exceeded"), "{reason}");
    let sealed = Cache::<V>::builder().codec(Sealed::new(codec)).build(store).await.unwrap();
    assert_eq!(sealed.get("sealed").await.unwrap().map(|_| ()), None);
    assert_eq!(sealed.stats().backend.foreign, 1);
}

#[tokio::test]
async fn bytes_that_are_nested_without_end_are_an_error_in_every_codec_sealed_or_not() {
    // A `Some` a byte.
    read_deep::<List>(Postcard, repeat_n(0x01, DEEP)).await;
    // A sequence of one item a byte.
    read_deep::<Tree>(Postcard, repeat_n(0x01, DEEP)).await;
    read_deep::<Node>(Postcard, repeat_n(0x01, DEEP)).await;
    read_deep::<Term>(Postcard, repeat_n(0x01, DEEP)).await;
    read_deep::<Term>(Postcard, repeat_n(0x03, DEEP)).await;
    read_deep::<Tree>(MessagePack, repeat_n(0x91, DEEP)).await;
    read_deep::<serde_json::Value>(MessagePack, repeat_n(0x91, DEEP)).await;
    read_deep::<Node>(MessagePack, b"\x81\xa4next".iter().copied().cycle().take(DEEP)).await;
    read_deep::<Tree>(Json, repeat_n(b'[', DEEP)).await;
    read_deep::<serde_json::Value>(Json, repeat_n(b'[', DEEP)).await;
}

#[tokio::test]
async fn a_type_that_takes_no_bytes_for_a_level_is_an_error_too() {
    read_deep::<List>(Json, b"1".iter().copied()).await;
    read_deep::<List>(MessagePack, [0x01].into_iter()).await;
}

/// Builds a value of so many levels, each around the one before.
fn nested<V>(levels: usize, innermost: V, around: impl Fn(Box<V>) -> V) -> V {
    (0..levels).fold(innermost, |inner, _| around(Box::new(inner)))
}

/// Whatever is written can be read, and what is written goes at least this deep.
fn reads_what_it_writes<V>(codec: &impl Codec<V>, at_least: usize, value: impl Fn(usize) -> V)
where
    V: PartialEq + Debug + Serialize + DeserializeOwned,
{
    let deepest = (0..300).take_while(|levels| {
        let value = value(*levels);
        match codec.encode(&value) {
            Ok(bytes) => assert_eq!(codec.decode(&bytes).as_ref(), Ok(&value)),
            Err(error) => {
                assert!(error.to_string().contains("deeper than 127 levels"), "{error}");
                return false;
            }
        }
        true
    });
    let deepest = deepest.last().unwrap();
    assert!(deepest >= at_least && deepest <= LEVELS, "{deepest} levels");
}

fn each_shape_reads_what_it_writes(codec: &(impl Codec<Tree> + Codec<Node> + Codec<Term>)) {
    // A newtype around each sequence is a level of its own kind.
    reads_what_it_writes(codec, LEVELS - 1, |levels| nested(levels, Tree(Vec::new()), |inner| Tree(vec![*inner])));
    reads_what_it_writes(codec, LEVELS - 1, |levels| nested(levels, Node::default(), |next| Node { next: Some(next) }));
    reads_what_it_writes(codec, LEVELS, |levels| nested(levels, Term::End, Term::Newtype));
    reads_what_it_writes(codec, LEVELS / 2, |levels| nested(levels, Term::End, |inner| Term::Tuple(1, inner)));
    reads_what_it_writes(codec, LEVELS / 2, |levels| nested(levels, Term::End, |inner| Term::Struct { inner }));
}

#[test]
fn what_is_too_deep_to_be_read_is_refused_as_it_is_written() {
    each_shape_reads_what_it_writes(&Json);
    each_shape_reads_what_it_writes(&MessagePack);
    each_shape_reads_what_it_writes(&Postcard);
    each_shape_reads_what_it_writes(&Sealed::new(Json));
    let array = |levels| (0..levels).fold(serde_json::json!(1), |inner, _| serde_json::json!([inner]));
    reads_what_it_writes(&Json, LEVELS, array);
    reads_what_it_writes(&MessagePack, LEVELS, array);
    // A `Some` and a newtype a level.
    reads_what_it_writes(&Postcard, LEVELS / 2, |levels| nested(levels, List(None), |inner| List(Some(inner))));
}

/// Deeper than any stack, and dropped without one.
#[derive(Serialize, Deserialize)]
struct Chain(Option<Box<Self>>);

impl Drop for Chain {
    fn drop(&mut self) {
        let mut next = self.0.take();
        while let Some(mut link) = next {
            next = link.0.take();
        }
    }
}

async fn refuses_a_chain(codec: impl Codec<Chain>) {
    let store = MemoryBackend::new();
    let cache = Cache::<Chain>::builder().codec(codec).build(store.clone()).await.unwrap();
    let chain = nested(1 << 20, Chain(None), |inner| Chain(Some(inner)));
    assert_eq!(cache.set("k", chain).await.unwrap_err().kind(), ErrorKind::Codec);
    assert_eq!(store.operations().total(), 0);
}

#[tokio::test]
async fn a_value_nested_deeper_than_the_stack_is_refused_and_nothing_is_sent() {
    refuses_a_chain(Json).await;
    refuses_a_chain(MessagePack).await;
    refuses_a_chain(Postcard).await;
    refuses_a_chain(Sealed::new(Postcard)).await;
}
