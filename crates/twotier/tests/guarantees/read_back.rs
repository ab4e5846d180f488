//! What is written reads back equal, or is refused before anything is changed.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet},
    fmt::Debug,
    io,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use twotier::{
    Cache, Codec, Error, ErrorKind, MemoryBackend,
    codec::{Json, MessagePack, Place, Postcard, Raw, Sealed},
};

/// A float in every place that a value has for one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Newtype(f64),
    Single(f32),
    Tuple(u8, f64),
    Struct { name: String, share: f32 },
    Option(Option<f64>),
    Vec(Vec<f32>),
    Array([f64; 2]),
    Map(BTreeMap<String, f64>),
    Nested(Box<Self>),
    Wrapped(Wrapper),
    Tagged(Tagged),
    Flat(Flat),
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Wrapper(f64);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged {
    Mean { of: f64 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flat {
    name: String,
    #[serde(flatten)]
    rest: HashMap<String, f64>,
}

fn shapes(float: f64) -> Vec<Shape> {
    #[allow(clippy::cast_possible_truncation, reason = "what is not finite stays so")]
    let single = float as f32;
    vec![
        Shape::Newtype(float),
        Shape::Single(single),
        Shape::Tuple(1, float),
        Shape::Struct { name: String::new(), share: single },
        Shape::Option(Some(float)),
        Shape::Vec(vec![0.0, single]),
        Shape::Array([float, 1.0]),
        Shape::Map(BTreeMap::from([("a".to_owned(), float)])),
        Shape::Nested(Box::new(Shape::Nested(Box::new(Shape::Newtype(float))))),
        Shape::Wrapped(Wrapper(float)),
        Shape::Tagged(Tagged::Mean { of: float }),
        Shape::Flat(Flat { name: String::new(), rest: HashMap::from([("a".to_owned(), float)]) }),
    ]
}

fn is_codec(error: &Error, reason: &str) {
    assert_eq!(error.kind(), ErrorKind::Codec);
    let source = std::error::Error::source(error).unwrap().to_string();
    assert!(source.contains(reason), "{source}");
}

#[tokio::test]
async fn a_float_that_json_has_no_word_for_is_refused_and_nothing_is_changed() {
    let store = MemoryBackend::new();
    let cache: Cache<Shape> = Cache::builder().verify_writes(false).build(store.clone()).await.unwrap();
    cache.set("k", Shape::Newtype(0.5)).await.unwrap();
    let before = store.operations();
    let refused = "a float that is infinite or not a number";
    for float in [f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for shape in shapes(float) {
            is_codec(&cache.set("k", shape.clone()).await.unwrap_err(), refused);
            let items = || [("other", Shape::Newtype(1.0)), ("k", shape.clone())];
            is_codec(&cache.set_many(items()).await.unwrap_err(), refused);
            assert_eq!(cache.get_if_local("k").as_deref(), Some(&Shape::Newtype(0.5)), "the copy is served on");
        }
    }
    assert_eq!(store.operations(), before, "no command was sent");
}

#[tokio::test]
async fn a_loaded_value_that_json_has_no_word_for_is_returned_and_not_stored() {
    let store = MemoryBackend::new();
    let cache: Cache<f64> = Cache::builder().build(store.clone()).await.unwrap();
    for runs in 1..3 {
        let mean = cache.get_or_load("mean", async |_| Ok::<_, io::Error>(f64::NAN)).await.unwrap();
        assert!(mean.is_nan());
        assert_eq!((cache.stats().backend.loads, cache.stats().backend.unstored), (runs, runs));
    }
    assert_eq!((store.operations().set, store.operations().set_many, store.len()), (0, 0, 0));
    is_codec(&cache.update("mean", |_| Some(f64::INFINITY)).await.unwrap_err(), "infinite");
    assert_eq!(store.operations().compare_and_set, 0);
}

/// Encodes, verifies and decodes, as the cache does.
fn round_trip<V: Serialize + DeserializeOwned>(codec: &impl Codec<V>, value: &V) -> Result<V, twotier::CodecError> {
    let place = Place::new("n", "k", usize::MAX);
    let bytes = codec.encode_at(place, value)?;
    codec.verify_at(place, value, &bytes)?;
    Ok(codec.decode_at(place, &bytes)?.expect("it is its own"))
}

#[track_caller]
fn survives<V: Serialize + DeserializeOwned + PartialEq + Debug>(codec: &impl Codec<V>, value: &V) {
    assert_eq!(round_trip(codec, value).as_ref(), Ok(value));
}

#[track_caller]
fn survives_every_codec<V: Serialize + DeserializeOwned + PartialEq + Debug>(value: &V) {
    survives(&Json, value);
    survives(&MessagePack, value);
    survives(&Postcard, value);
    survives(&Sealed::new(Json).compress_from(10), value);
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Lenient {
    id: u64,
    #[serde(default)]
    added_later: Option<u8>,
    #[serde(skip)]
    cached: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    /// The well-known way to tell a null from nothing.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some")]
    patch: Option<Option<u8>>,
}

fn some<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u8>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(i64),
    Text(String),
    Map(BTreeMap<String, Self>),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Kinds {
    Unit,
    Newtype(Box<Self>),
    Tuple(i8, u128),
    Struct { wide: i128, letter: char },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct FlatOption {
    name: String,
    #[serde(flatten)]
    wrapper: Option<Lenient>,
}

#[test]
fn no_value_that_reads_back_equal_is_refused_by_verification() {
    survives_every_codec(&(0..500).collect::<HashSet<u32>>());
    survives_every_codec(&(0..500).map(|key| (key, key.to_string())).collect::<HashMap<i32, _>>());
    survives_every_codec(&BTreeMap::from([(true, -0.0_f64), (false, f64::MIN_POSITIVE)]));
    survives_every_codec(&Cow::<str>::Borrowed("text"));
    survives_every_codec(&(Unit, (), 'c', Some(Some(3)), None::<u8>));
    survives_every_codec(&[u64::MAX, u64::MAX - 1, 1 << 53]);
    survives_every_codec(&(u128::MAX, i128::MIN));
    survives_every_codec(&(f32::MAX, f32::from_bits(1), f64::from_bits(1), 0.1_f32));
    survives_every_codec(&(Duration::from_nanos(1), SystemTime::UNIX_EPOCH, IpAddr::from([127, 0, 0, 1])));
    survives_every_codec(&vec![
        Kinds::Unit,
        Kinds::Newtype(Box::new(Kinds::Tuple(-1, u128::MAX))),
        Kinds::Struct { wide: i128::MIN, letter: '\u{1F980}' },
    ]);
    survives_every_codec(&vec![Ok::<u8, String>(1), Err(String::new())]);
    let seen: BinaryHeap<u32> = round_trip(&Json, &(0..50).collect::<BinaryHeap<u32>>()).unwrap();
    assert_eq!(seen.into_sorted_vec(), (0..50).collect::<Vec<_>>());
    let lenient = |patch| Lenient { id: 1, cached: None, patch, ..Lenient::default() };
    for lenient in [lenient(None), lenient(Some(None)), lenient(Some(Some(1)))] {
        survives(&Json, &lenient);
        survives(&MessagePack, &lenient);
    }
    let untagged =
        BTreeMap::from([("a".to_owned(), Untagged::Number(-1)), ("b".to_owned(), Untagged::Text("x".to_owned()))]);
    survives(&Json, &Untagged::Map(untagged));
    survives(&Json, &serde_json::json!({ "a": [1, -1, 1.5, null, true, "x", { "b": {} }], "c": u64::MAX }));
    survives(&MessagePack, &serde_json::json!([1, -1, 1.5, null, "x"]));
    for wrapper in [None, Some(Lenient { id: 7, ..Lenient::default() })] {
        survives(&Json, &FlatOption { name: "n".to_owned(), wrapper });
    }
    for shape in shapes(0.1) {
        survives(&Json, &shape);
    }
    assert!(round_trip(&Json, &Lenient { cached: Some(String::new()), ..Lenient::default() }).is_ok(), "skipped");
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Ambiguous {
    Short(u8),
    Long(u64),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct FlatWide {
    #[serde(flatten)]
    wide: Wide,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Wide {
    number: u128,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct OneWay {
    #[serde(skip_serializing)]
    secret: String,
}

#[track_caller]
fn is_refused<V: Serialize + DeserializeOwned + Debug>(codec: &impl Codec<V>, value: &V, reason: &str) {
    let error = round_trip(codec, value).unwrap_err().to_string();
    assert!(error.contains(reason), "{error}");
}

#[test]
fn what_reads_back_as_something_else_or_not_at_all_is_refused_with_a_reason() {
    let another = "it reads back as another value";
    is_refused(&Json, &Some(None::<u8>), another);
    is_refused(&Json, &Some(()), another);
    is_refused(&MessagePack, &vec![Some(None::<u8>)], another);
    is_refused(&Sealed::new(MessagePack), &Some(()), another);
    is_refused(&Json, &Ambiguous::Long(1), another);
    is_refused(&Json, &FlatWide { wide: Wide { number: 1 } }, "the type does not fit at line 1");
    is_refused(&Json, &OneWay { secret: "sekret".to_owned() }, "the type does not fit at line 1");
    is_refused(&Json, &HashMap::from([((1, 2), 3)]), "key must be a string");
    is_refused(&Json, &HashMap::from([(None::<u8>, 1)]), "key must be a string");
    is_refused(&MessagePack, &OneWay { secret: "sekret".to_owned() }, "the bytes do not fit the type");
    is_refused(&Postcard, &Untagged::Number(1), "cannot be decoded as postcard");
    is_refused(&Postcard, &serde_json::json!(1), "cannot be decoded as postcard");
    survives(&Postcard, &Some(None::<u8>));
    survives(&Postcard, &BTreeSet::from([Some(()), None]));
}

#[tokio::test]
async fn writes_are_verified_before_anything_is_changed_where_that_is_set() {
    let store = MemoryBackend::new();
    let builder = || Cache::<Option<Option<u8>>>::builder();
    let verifying = builder().verify_writes(true).build(store.clone()).await.unwrap();
    verifying.set("k", Some(Some(1))).await.unwrap();
    is_codec(&verifying.set("k", Some(None)).await.unwrap_err(), "another value");
    is_codec(&verifying.set_many([("k", Some(None))]).await.unwrap_err(), "another value");
    assert_eq!((store.operations().set, store.operations().set_many), (1, 0));
    assert_eq!(verifying.get_if_local("k").as_deref(), Some(&Some(Some(1))));
    let trusting = builder().verify_writes(false).build(store.clone()).await.unwrap();
    trusting.set("k", Some(None)).await.unwrap();
    assert_eq!(store.operations().set, 2);
    trusting.clear_local();
    assert_eq!(trusting.get("k").await.unwrap().as_deref(), Some(&None), "as JSON has it");
    assert_eq!(twotier::CacheConfig::default().verify_writes, cfg!(debug_assertions));
}

/// Does not recognise, or cannot read, what it writes itself.
struct Forgetful;

impl Codec<Bytes> for Forgetful {
    fn encode(&self, value: &Bytes) -> Result<Bytes, twotier::CodecError> {
        Raw.encode(value)
    }

    fn decode(&self, bytes: &Bytes) -> Result<Bytes, twotier::CodecError> {
        if bytes.is_empty() {
            Err(twotier::CodecError::decoding("forgetful", "it is empty"))
        } else {
            Raw.decode(bytes)
        }
    }

    fn decode_at(&self, _place: Place<'_>, bytes: &Bytes) -> Result<Option<Bytes>, twotier::CodecError> {
        if bytes.len() == 1 { Ok(None) } else { self.decode(bytes).map(Some) }
    }
}

#[tokio::test]
async fn a_codec_of_the_user_s_own_is_verified_by_decoding() {
    let store = MemoryBackend::new();
    let cache = Cache::<Bytes>::builder().codec(Forgetful).verify_writes(true).build(store.clone()).await.unwrap();
    is_codec(&cache.set("k", Bytes::new()).await.unwrap_err(), "it is empty");
    is_codec(&cache.set("k", Bytes::from_static(b"1")).await.unwrap_err(), "does not recognise");
    assert_eq!(store.operations().total(), 0);
    cache.set("k", Bytes::from_static(b"12")).await.unwrap();
}

mod live {
    use proptest::{
        prelude::{Strategy, any},
        strategy::ValueTree,
        test_runner::TestRunner,
    };
    use twotier_testkit::RedisServer;

    use super::*;
    use crate::support::{READS, redis};

    /// So many floats, the same in every run: any bits, and what arithmetic makes of them.
    fn floats(count: usize) -> Vec<f64> {
        let mut runner = TestRunner::deterministic();
        let bits = any::<u64>().prop_map(f64::from_bits);
        let strategy = proptest::prop_oneof![bits, -1e6..1e6, 0.0..1.0];
        (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
    }

    async fn read_back_equal(server: &RedisServer, codec: impl Codec<f64> + Clone, namespace: &str, floats: &[f64]) {
        let build = async || {
            let builder = Cache::<f64>::builder().namespace(namespace).codec(codec.clone());
            builder.verify_writes(false).build(redis(server)).await.unwrap()
        };
        let (writer, reader) = (build().await, build().await);
        let keys: Vec<String> = (0..floats.len()).map(|index| index.to_string()).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        writer.set_many(keys.iter().copied().zip(floats.iter().copied())).await.unwrap();
        server.reset_stats();
        let seen = reader.get_many(&keys).await.unwrap();
        for (written, read) in floats.iter().zip(seen) {
            assert_eq!(read.unwrap().to_bits(), written.to_bits(), "{written:?} in {namespace}");
        }
        assert!(server.calls(&READS) > 0, "from the server and not from a copy");
    }

    #[tokio::test]
    async fn ten_thousand_bit_patterns_read_back_equal_in_another_instance_with_every_codec() {
        let server = RedisServer::start();
        let mut floats = floats(10_000);
        read_back_equal(&server, MessagePack, "messagepack", &floats).await;
        read_back_equal(&server, Postcard, "postcard", &floats).await;
        read_back_equal(&server, Sealed::new(Postcard), "sealed", &floats).await;
        floats.iter_mut().filter(|float| !float.is_finite()).for_each(|float| *float = 0.914_615_523_521_910_7);
        read_back_equal(&server, Json, "json", &floats).await;
        read_back_equal(&server, Sealed::new(Json), "sealed-json", &floats).await;
    }
}
