//! Which entry goes when the local tier is full.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::ConfigError;

/// Which entry goes when the local tier is full: one word in a configuration file, the environment or the builder.
///
/// A large tier is split into shards by the hash of the key, and each shard decides for itself.
///
/// ```
/// # use twotier_core as twotier;
/// use twotier::Eviction;
///
/// assert_eq!("s3-fifo".parse(), Ok(Eviction::S3Fifo));
/// assert_eq!("random:7".parse(), Ok(Eviction::Random { seed: 7 }));
/// assert_eq!(Eviction::Random { seed: 7 }.to_string(), "random:7");
/// # Ok::<(), twotier::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Eviction {
    /// `lru`: the least recently used, exactly, within a shard. The one whose outcome can be predicted.
    #[default]
    Lru,
    /// `lfu`: the one hit least often since it came in; of several, the least recently used. It forgets nothing while
    /// an entry stays, so what was popular once is kept for long.
    Lfu,
    /// `fifo`: the one that came in first, whether or not it was used.
    Fifo,
    /// `random` or `random:SEED`: any, with equal chances. Equal seeds and equal calls choose equal victims in a tier
    /// of one shard. `random` alone is seed 0.
    Random {
        /// Where the generator starts.
        seed: u64,
    },
    /// `s3-fifo`: three queues that keep one-time keys from displacing the rest, where a hit only marks its entry: the
    /// fastest. Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023.
    S3Fifo,
    /// `w-tinylfu`: a window of recent keys, and a main part into which those go that were hit in the window or are
    /// asked for more often than the one they would displace. It keeps a part of a loop longer than the cache, of which
    /// the others keep nothing. Einziger, Friedman and Manes, "TinyLFU: A highly efficient cache admission policy", ACM
    /// Transactions on Storage 2017.
    WTinyLfu,
}

/// What a text must be to name a policy.
const WORDS: &str = "one of lru, lfu, fifo, random, random:SEED, s3-fifo, w-tinylfu";

impl Eviction {
    /// Returns the policy that a text names.
    fn named(text: &str) -> Option<Self> {
        Some(match text {
            "lru" => Self::Lru,
            "lfu" => Self::Lfu,
            "fifo" => Self::Fifo,
            "random" => Self::Random { seed: 0 },
            "s3-fifo" => Self::S3Fifo,
            "w-tinylfu" => Self::WTinyLfu,
            _ => Self::Random { seed: text.strip_prefix("random:")?.parse().ok()? },
        })
    }
}

impl FromStr for Eviction {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        Self::named(text).ok_or_else(|| ConfigError::new("eviction", format!("must be {WORDS}")))
    }
}

impl fmt::Display for Eviction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lru => "lru",
            Self::Lfu => "lfu",
            Self::Fifo => "fifo",
            Self::Random { seed: 0 } => "random",
            Self::Random { seed } => return write!(f, "random:{seed}"),
            Self::S3Fifo => "s3-fifo",
            Self::WTinyLfu => "w-tinylfu",
        })
    }
}

impl Serialize for Eviction {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Eviction {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Word)
    }
}

struct Word;

impl de::Visitor<'_> for Word {
    type Value = Eviction;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(WORDS)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Eviction, E> {
        Eviction::named(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CacheConfig;

    const ALL: [(&str, Eviction); 7] = [
        ("lru", Eviction::Lru),
        ("lfu", Eviction::Lfu),
        ("fifo", Eviction::Fifo),
        ("random", Eviction::Random { seed: 0 }),
        ("random:18446744073709551615", Eviction::Random { seed: u64::MAX }),
        ("s3-fifo", Eviction::S3Fifo),
        ("w-tinylfu", Eviction::WTinyLfu),
    ];

    #[test]
    fn every_policy_has_a_word_that_reads_back_in_every_format() {
        for (word, policy) in ALL {
            assert_eq!((word.parse(), policy.to_string()), (Ok(policy), word.to_owned()));
            let json = CacheConfig::from_json(&format!(r#"{{"eviction": "{word}"}}"#)).unwrap();
            assert_eq!(json.eviction, policy);
            assert_eq!(CacheConfig::from_json(&serde_json::to_string(&json).unwrap()).unwrap(), json);
            let env = CacheConfig::from_vars([("TWOTIER_EVICTION".into(), word.into())]).unwrap();
            assert_eq!(env.eviction, policy);
            #[cfg(feature = "toml")]
            assert_eq!(CacheConfig::from_toml(&format!("eviction = \"{word}\"")).unwrap().eviction, policy);
        }
        assert_eq!(Eviction::default(), Eviction::Lru);
    }

    #[test]
    fn any_other_word_is_an_error_that_lists_the_words() {
        for word in ["", "LRU", "clock", "random:", "random:-1", "random:x", "random:18446744073709551616", "lru:1"] {
            let error = word.parse::<Eviction>().unwrap_err();
            assert_eq!(error.field(), "eviction", "{word}");
            assert!(error.to_string().contains("w-tinylfu"), "{error}");
            assert!(CacheConfig::from_json(&format!(r#"{{"eviction": "{word}"}}"#)).is_err(), "{word}");
        }
    }
}
