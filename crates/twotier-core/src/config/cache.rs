//! The configuration of a cache.

use std::{ffi::OsString, time::Duration};

use serde::{Deserialize, Serialize};

use super::{ConfigError, Eviction, check_time_to_live, duration, env};
use crate::{Coherence, Namespace};

/// What an entry may weigh on average before the bound on bytes, where it was left out, is felt before that on entries.
const BYTES_PER_ENTRY: usize = 2000;

/// Everything there is to configure about a cache, as a plain struct for TOML, JSON or the environment.
///
/// Unknown fields are errors, and every field is validated by [`validate`](Self::validate) before anything is built.
/// Durations carry their unit: `"250ms"`, `"5m"`, `"1h 30m"`.
///
/// ```
/// # use twotier_core as twotier;
/// use twotier::CacheConfig;
///
/// let config = CacheConfig::from_json(
///     r#"{ "namespace": "users", "max_entries": 10000, "time_to_live": "5m", "negative_time_to_live": "off" }"#,
/// )?;
/// assert_eq!(config.max_entries, 10_000);
/// assert_eq!(config.negative_time_to_live, None);
/// # Ok::<(), twotier::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheConfig {
    /// The prefix of every key in the backend: `<namespace>:<key>`. Default `twotier`.
    pub namespace: String,
    /// Whether there is a local tier; without one every read goes to the backend. Default true.
    #[serde(alias = "local_cache_enabled")]
    pub local_enabled: bool,
    /// The most entries in the local tier, at least 1. Default 500.
    #[serde(alias = "local_cache_size")]
    pub max_entries: usize,
    /// The most bytes in the local tier: keys, values as weighed, and a fixed overhead for each entry.
    /// Left out: 2000 for each of `max_entries`, which is 1 000 000 by default.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<usize>,
    /// Which entry goes when the local tier is full: `lru`, `lfu`, `fifo`, `random`, `random:SEED`, `s3-fifo` or
    /// `w-tinylfu`. Default `lru`.
    pub eviction: Eviction,
    /// How long a written value lives in the backend; `"off"` is for ever. Default off.
    #[serde(with = "duration::optional")]
    pub time_to_live: Option<Duration>,
    /// The longest a local copy is served without asking the backend again; each copy gets up to a tenth less, so that
    /// copies made together do not end together. It never outlives the value in the backend.
    /// Left out: 60 s where the backend reports changes, 5 s where nothing but this bounds how stale a copy gets.
    #[serde(deserialize_with = "duration::given", skip_serializing_if = "Option::is_none")]
    #[serde(serialize_with = "duration::optional::serialize")]
    pub local_time_to_live: Option<Duration>,
    /// How long the local tier remembers that a key is absent; `"off"` not at all. Default 5 s.
    #[serde(with = "duration::optional")]
    pub negative_time_to_live: Option<Duration>,
    /// By how much `time_to_live` is shortened at random, as a share between 0 and 1, so that values written together
    /// do not expire together. A time to live given with one write is taken as it is. Default 0.
    pub ttl_jitter: f64,
    /// How local copies are kept coherent; left out, the best the backend has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coherence: Option<Coherence>,
    /// The longest a hit may be stale, between 50 ms and 1 h. Default 2 s.
    #[serde(with = "duration::required")]
    pub max_staleness: Duration,
    /// The longest one call waits for the backend; for a batch, the longest it waits for the next of its answers.
    /// Default 500 ms.
    #[serde(with = "duration::required")]
    pub op_timeout: Duration,
    /// The longest one run of a loader may take; then it is dropped, and the call is an error. Default 30 s.
    #[serde(with = "duration::required")]
    pub load_timeout: Duration,
    /// The longest a call waits for somebody else's loader before it runs its own. Default 2 s.
    #[serde(with = "duration::required")]
    pub load_wait: Duration,
    /// The largest encoded value that is written or kept, in bytes. Default 16 MiB. A larger one in Redis is an error of its
    /// own key; from 64 KiB on it takes no memory.
    pub max_value_bytes: usize,
    /// The most keys that are under way to the backend at once, between 1 and 1 000 000. Default 4096: more than a
    /// network of 40 ms needs to keep a server busy that answers 100 000 keys a second.
    pub max_in_flight: usize,
    /// The most calls that wait while so many keys are under way; one more is refused as overloaded. Default 65 536: about
    /// as many as a server answers within the default `op_timeout`, so that more would only wait for their timeout.
    pub max_waiting: usize,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            namespace: "twotier".to_owned(),
            local_enabled: true,
            max_entries: 500,
            max_bytes: None,
            eviction: Eviction::Lru,
            time_to_live: None,
            local_time_to_live: None,
            negative_time_to_live: Some(Duration::from_secs(5)),
            ttl_jitter: 0.0,
            coherence: None,
            max_staleness: Duration::from_secs(2),
            op_timeout: Duration::from_millis(500),
            load_timeout: Duration::from_secs(30),
            load_wait: Duration::from_secs(2),
            max_value_bytes: 16 * 1024 * 1024,
            max_in_flight: 4096,
            max_waiting: 65_536,
        }
    }
}

impl CacheConfig {
    /// Reads and validates a configuration from JSON.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names the unknown, malformed or out-of-range field.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        Self::checked(serde_json::from_str(text).map_err(|error| unreadable("json", &error))?)
    }

    /// Reads and validates a configuration from TOML.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names the unknown, malformed or out-of-range field.
    #[cfg(feature = "toml")]
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        Self::checked(toml::from_str(text).map_err(|error| unreadable("toml", &error))?)
    }

    /// Reads and validates a configuration from the environment: `TWOTIER_` and the field's name in capitals, such as
    /// `TWOTIER_MAX_ENTRIES=10000`. Variables that start with `TWOTIER_REDIS_` belong to
    /// [`RedisConfig`](super::RedisConfig).
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names the unknown, malformed or out-of-range field.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_vars(std::env::vars_os())
    }

    /// Does what [`from_env`](Self::from_env) does with variables given by the caller.
    ///
    /// # Errors
    ///
    /// As [`from_env`](Self::from_env).
    pub fn from_vars(vars: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Self, ConfigError> {
        Self::checked(env::read(env::Part::Cache, vars)?)
    }

    fn checked(config: Self) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(config)
    }

    /// Returns the bound on the bytes of the local tier, chosen from `max_entries` when `max_bytes` was left out.
    #[must_use]
    pub fn local_bytes(&self) -> usize {
        self.max_bytes.unwrap_or_else(|| self.max_entries.saturating_mul(BYTES_PER_ENTRY))
    }

    /// Checks every field and returns the namespace.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names the first field that is out of range.
    pub fn validate(&self) -> Result<Namespace, ConfigError> {
        let namespace = Namespace::new(&self.namespace)?;
        if self.max_entries == 0 {
            let reason = "must be at least 1; to run without a local tier set `local_enabled` to false";
            return Err(ConfigError::new("max_entries", reason));
        }
        if self.max_bytes == Some(0) {
            let reason = "must be at least 1; to run without a local tier set `local_enabled` to false";
            return Err(ConfigError::new("max_bytes", reason));
        }
        if let Some(ttl) = self.time_to_live {
            check_time_to_live("time_to_live", ttl)?;
        }
        if let Some(ttl) = self.local_time_to_live {
            check_time_to_live("local_time_to_live", ttl)?;
        }
        if let Some(ttl) = self.negative_time_to_live {
            check_time_to_live("negative_time_to_live", ttl)?;
        }
        if !(0.0..1.0).contains(&self.ttl_jitter) {
            return Err(ConfigError::new("ttl_jitter", "must be a share from 0 up to, but not including, 1"));
        }
        let (shortest, longest) = (Duration::from_millis(50), Duration::from_secs(3600));
        if self.max_staleness < shortest || self.max_staleness > longest {
            return Err(ConfigError::new("max_staleness", "must be between 50 ms and 1 h"));
        }
        for (field, timeout) in
            [("op_timeout", self.op_timeout), ("load_timeout", self.load_timeout), ("load_wait", self.load_wait)]
        {
            if timeout < Duration::from_millis(1) || timeout > longest {
                return Err(ConfigError::new(field, "must be between 1 ms and 1 h"));
            }
        }
        if self.max_value_bytes == 0 {
            return Err(ConfigError::new("max_value_bytes", "must be at least 1"));
        }
        if !(1..=1_000_000).contains(&self.max_in_flight) {
            return Err(ConfigError::new("max_in_flight", "must be between 1 and 1000000"));
        }
        Ok(namespace)
    }
}

/// Reads a field whose absence means "chosen for you".
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    usize::deserialize(deserializer).map(Some)
}

/// Turns a parser's message into an error that names the field, when the message does.
fn unreadable(format: &'static str, error: &dyn std::fmt::Display) -> ConfigError {
    let message = error.to_string();
    let named = message.split('`').nth(1).filter(|_| message.contains("unknown field"));
    match named {
        Some(field) => {
            let rest = message.lines().last().unwrap_or_default().trim();
            ConfigError::new(field.to_owned(), format!("does not exist: {rest}"))
        }
        None => ConfigError::new(format, format!("cannot be read: {}", without_values(&message))),
    }
}

/// Keeps of a parser's message where something is wrong and what was expected there. What stood there instead may be a
/// secret in the wrong place: parsers quote it, and show the line that it is in.
fn without_values(message: &str) -> String {
    let lines: Vec<&str> = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let (first, said) = (lines.first().copied().unwrap_or_default(), lines.last().copied().unwrap_or_default());
    // One line says everything; of several the first says where, and the last what.
    let place = match first.split_once(" at ") {
        Some((_, place)) if lines.len() > 1 => format!(" at {place}"),
        _ => String::new(),
    };
    match said.rsplit_once(", expected ") {
        Some((_quoted, expected)) => format!("expected {expected}{place}"),
        None if said.contains(['"', '\'', '`']) => format!("it is malformed{place}"),
        None => format!("{said}{place}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect()
    }

    #[test]
    fn the_defaults_are_valid_and_survive_json() {
        let config = CacheConfig::default();
        config.validate().unwrap();
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(CacheConfig::from_json(&json).unwrap(), config);
    }

    #[test]
    fn the_original_names_are_accepted() {
        let config = CacheConfig::from_json(r#"{"local_cache_enabled": false, "local_cache_size": 7}"#).unwrap();
        assert!(!config.local_enabled);
        assert_eq!(config.max_entries, 7);
        let config =
            CacheConfig::from_vars(vars(&[("TWOTIER_LOCAL_CACHE_SIZE", "9"), ("TWOTIER_LOCAL_CACHE_ENABLED", "off")]))
                .unwrap();
        assert!(!config.local_enabled);
        assert_eq!(config.max_entries, 9);
    }

    #[test]
    fn every_field_can_come_from_the_environment() {
        let config = CacheConfig::from_vars(vars(&[
            ("TWOTIER_NAMESPACE", "users"),
            ("TWOTIER_LOCAL_ENABLED", "true"),
            ("TWOTIER_MAX_ENTRIES", "10"),
            ("TWOTIER_MAX_BYTES", "2000"),
            ("TWOTIER_EVICTION", "lru"),
            ("TWOTIER_TIME_TO_LIVE", "5m"),
            ("TWOTIER_LOCAL_TIME_TO_LIVE", "1s"),
            ("TWOTIER_NEGATIVE_TIME_TO_LIVE", "off"),
            ("TWOTIER_TTL_JITTER", "0.25"),
            ("TWOTIER_COHERENCE", "none"),
            ("TWOTIER_MAX_STALENESS", "1s"),
            ("TWOTIER_OP_TIMEOUT", "100ms"),
            ("TWOTIER_LOAD_TIMEOUT", "10s"),
            ("TWOTIER_LOAD_WAIT", "3s"),
            ("TWOTIER_MAX_VALUE_BYTES", "4096"),
            ("TWOTIER_MAX_IN_FLIGHT", "64"),
            ("TWOTIER_MAX_WAITING", "0"),
            ("TWOTIER_REDIS_URL", "redis://elsewhere"),
            ("UNRELATED", "x"),
        ]))
        .unwrap();
        let expected = CacheConfig {
            namespace: "users".to_owned(),
            local_enabled: true,
            max_entries: 10,
            max_bytes: Some(2000),
            eviction: Eviction::Lru,
            time_to_live: Some(Duration::from_secs(300)),
            local_time_to_live: Some(Duration::from_secs(1)),
            negative_time_to_live: None,
            ttl_jitter: 0.25,
            coherence: Some(Coherence::None),
            max_staleness: Duration::from_secs(1),
            op_timeout: Duration::from_millis(100),
            load_timeout: Duration::from_secs(10),
            load_wait: Duration::from_secs(3),
            max_value_bytes: 4096,
            max_in_flight: 64,
            max_waiting: 0,
        };
        assert_eq!(config, expected);
    }

    #[test]
    fn the_variables_that_kubernetes_makes_of_services_are_passed_over() {
        let services = [
            ("TWOTIER_PORT", "tcp://10.0.0.1:80"),
            ("TWOTIER_SERVICE_HOST", "10.0.0.1"),
            ("TWOTIER_SERVICE_PORT", "80"),
            ("TWOTIER_SERVICE_PORT_HTTP_V2", "80"),
            ("TWOTIER_PORT_80_TCP", "tcp://10.0.0.1:80"),
            ("TWOTIER_PORT_80_TCP_PROTO", "tcp"),
            ("TWOTIER_PORT_80_TCP_PORT", "80"),
            ("TWOTIER_PORT_80_TCP_ADDR", "10.0.0.1"),
            ("TWOTIER_ADMIN_API_SERVICE_HOST", "10.0.0.2"),
            ("TWOTIER_REDIS_PORT", "tcp://10.0.0.3:6379"),
            ("TWOTIER_REDIS_SERVICE_HOST", "10.0.0.3"),
            ("TWOTIER_REDIS_PORT_6379_UDP_ADDR", "10.0.0.3"),
        ];
        assert_eq!(CacheConfig::from_vars(vars(&services)).unwrap(), CacheConfig::default());
        let redis = vars(&[&services[..], &[("TWOTIER_REDIS_URL", "redis://h")]].concat());
        crate::RedisConfig::from_vars(redis).unwrap();
        let error = CacheConfig::from_vars(vars(&[("TWOTIER_PORTS", "80")])).unwrap_err();
        assert_eq!(error.field(), "ports", "what is not one of them is an unknown field");
    }

    #[test]
    fn a_wrong_variable_is_an_error_that_names_the_field_and_not_the_value() {
        for (name, value, field) in [
            ("TWOTIER_MAX_ENTRIES", "sekret", "max_entries"),
            ("TWOTIER_MAX_ENTRIES", "-1", "max_entries"),
            ("TWOTIER_MAX_ENTRIES", "0", "max_entries"),
            ("TWOTIER_MAX_ENTIRES", "5", "max_entires"),
            ("TWOTIER_EVICTION", "sekret", "eviction"),
            ("TWOTIER_COHERENCE", "sekret", "coherence"),
            ("TWOTIER_TIME_TO_LIVE", "0s", "time_to_live"),
            ("TWOTIER_TIME_TO_LIVE", "300", "time_to_live"),
            ("TWOTIER_LOCAL_ENABLED", "sekret", "local_enabled"),
            ("TWOTIER_TTL_JITTER", "sekret", "ttl_jitter"),
            ("TWOTIER_TTL_JITTER", "NaN", "ttl_jitter"),
        ] {
            let error = CacheConfig::from_vars(vars(&[(name, value)])).unwrap_err();
            assert_eq!(error.field(), field, "{name}={value}: {error}");
            assert!(!error.to_string().contains("sekret"), "{error}");
        }
    }

    #[test]
    fn the_bound_on_bytes_follows_that_on_entries_unless_it_is_given() {
        assert_eq!(CacheConfig::default().local_bytes(), 1_000_000);
        assert_eq!(CacheConfig { max_entries: 10_000, ..CacheConfig::default() }.local_bytes(), 20_000_000);
        assert_eq!(CacheConfig { max_bytes: Some(7), ..CacheConfig::default() }.local_bytes(), 7);
        assert!(CacheConfig::from_json(r#"{"max_bytes": null}"#).is_err());
    }

    #[test]
    fn an_unknown_field_is_named() {
        let error = CacheConfig::from_json(r#"{"max_entires": 5}"#).unwrap_err();
        assert_eq!(error.field(), "max_entires");
        assert!(error.to_string().contains("max_entries"), "{error}");
    }

    #[cfg(feature = "toml")]
    #[test]
    fn toml_reads_the_same_fields_and_names_the_unknown_one() {
        let config = CacheConfig::from_toml("namespace = \"users\"\ntime_to_live = \"5m\"\nmax_entries = 10").unwrap();
        assert_eq!(config.time_to_live, Some(Duration::from_secs(300)));
        assert_eq!(CacheConfig::from_toml("max_entires = 10").unwrap_err().field(), "max_entires");
    }

    #[test]
    fn an_error_says_what_was_expected_and_quotes_no_value() {
        for (json, expected) in [
            (r#"{"max_entries": "sekret"}"#, "expected usize"),
            (r#"{"max_entries": -17}"#, "expected usize"),
            (r#"{"eviction": "sekret"}"#, "expected"),
            (r#"{"coherence": "sekret"}"#, "expected one of"),
            (r#"{"time_to_live": "sekret"}"#, "a duration with its unit"),
            (r#"{"local_enabled": "sekret"}"#, "a boolean"),
            (r#"{"namespace": ["sekret"]}"#, "expected a string"),
            (r#"{"namespace": "sekret"#, "EOF"),
            (r#"{"namespace": sekret}"#, "expected value"),
        ] {
            let message = CacheConfig::from_json(json).unwrap_err().to_string();
            assert!(message.contains(expected) && message.contains("line 1"), "{json}: {message}");
            assert!(!message.contains("sekret") && !message.contains("17"), "{json}: {message}");
        }
    }

    #[cfg(feature = "toml")]
    #[test]
    fn an_error_in_toml_quotes_no_value_and_does_not_show_the_line() {
        for toml in
            ["max_entries = \"sekret\"", "time_to_live = \"sekret\"", "namespace = \"sekret", "namespace = sekret"]
        {
            let message = CacheConfig::from_toml(toml).unwrap_err().to_string();
            assert!(message.contains("line 1") && !message.contains("sekret"), "{toml}: {message}");
        }
    }

    #[test]
    fn a_number_is_no_duration_because_it_has_no_unit() {
        let error = CacheConfig::from_json(r#"{"time_to_live": 300}"#).unwrap_err();
        assert!(error.to_string().contains("unit"), "{error}");
    }

    #[test]
    fn every_field_out_of_range_is_named() {
        let base = CacheConfig::default;
        let cases = [
            ("namespace", CacheConfig { namespace: String::new(), ..base() }),
            ("max_entries", CacheConfig { max_entries: 0, ..base() }),
            ("max_bytes", CacheConfig { max_bytes: Some(0), ..base() }),
            ("time_to_live", CacheConfig { time_to_live: Some(Duration::ZERO), ..base() }),
            ("time_to_live", CacheConfig { time_to_live: Some(Duration::MAX), ..base() }),
            ("local_time_to_live", CacheConfig { local_time_to_live: Some(Duration::ZERO), ..base() }),
            ("negative_time_to_live", CacheConfig { negative_time_to_live: Some(Duration::ZERO), ..base() }),
            ("ttl_jitter", CacheConfig { ttl_jitter: 1.0, ..base() }),
            ("ttl_jitter", CacheConfig { ttl_jitter: f64::NAN, ..base() }),
            ("max_staleness", CacheConfig { max_staleness: Duration::ZERO, ..base() }),
            ("op_timeout", CacheConfig { op_timeout: Duration::ZERO, ..base() }),
            ("load_timeout", CacheConfig { load_timeout: Duration::ZERO, ..base() }),
            ("load_wait", CacheConfig { load_wait: Duration::MAX, ..base() }),
            ("max_value_bytes", CacheConfig { max_value_bytes: 0, ..base() }),
            ("max_in_flight", CacheConfig { max_in_flight: 0, ..base() }),
            ("max_in_flight", CacheConfig { max_in_flight: usize::MAX, ..base() }),
        ];
        for (field, config) in cases {
            assert_eq!(config.validate().unwrap_err().field(), field);
        }
    }
}
