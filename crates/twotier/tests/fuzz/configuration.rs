//! Configuration from anybody's text: an error that names a field, or settings that hold what they promise.

use std::{ffi::OsString, time::Duration};

use proptest::prelude::*;
use twotier::{CacheConfig, Coherence, ConfigError, RedisBackend, RedisConfig};

use crate::cases;

const FIELDS: [&str; 20] = [
    "namespace",
    "local_enabled",
    "local_cache_enabled",
    "max_entries",
    "local_cache_size",
    "max_bytes",
    "eviction",
    "time_to_live",
    "local_time_to_live",
    "negative_time_to_live",
    "ttl_jitter",
    "coherence",
    "max_staleness",
    "op_timeout",
    "max_value_bytes",
    "on_undecodable",
    "verify_writes",
    "size_advice",
    "audit",
    "no_such_field",
];

/// What was accepted is valid, and survives being written and read; what was refused says why.
fn holds(result: Result<CacheConfig, ConfigError>) -> Result<(), TestCaseError> {
    match result {
        Ok(config) => {
            prop_assert!(config.validate().is_ok(), "{config:?}");
            let json = serde_json::to_string(&config).unwrap();
            prop_assert_eq!(CacheConfig::from_json(&json).unwrap(), config);
        }
        // The name of a field nobody has may be empty, the error may not.
        Err(error) => prop_assert!(error.to_string().len() > "configuration field `` ".len()),
    }
    Ok(())
}

fn field() -> impl Strategy<Value = String> {
    prop_oneof![6 => prop::sample::select(FIELDS.to_vec()).prop_map(str::to_owned), 1 => "[a-zA-Z_]{0,12}"]
}

/// What somebody may write behind a field's name, as text.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => any::<u64>().prop_map(|number| number.to_string()),
        2 => (any::<u64>(), "(ns|us|ms|s|m|h|days|y|months| |)").prop_map(|(number, unit)| format!("{number}{unit}")),
        2 => (0..5000_u32, "(ms|s|m|h)").prop_map(|(number, unit)| format!("{number}{unit}")),
        1 => any::<f64>().prop_map(|number| number.to_string()),
        2 => prop::sample::select(vec!["off", "lru", "broadcast", "pub-sub", "none", "true", "no", "miss", "users", "", "NaN"])
            .prop_map(str::to_owned),
        1 => ".{0,20}",
    ]
}

/// The same as a value of JSON, quoted or not.
fn json_value() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => word().prop_map(|word| serde_json::to_string(&word).unwrap()),
        3 => word(),
        1 => "(null|\\[\\]|\\{\\}|-1|1e400|\\[1,\\[2\\]\\])",
    ]
}

fn valid() -> impl Strategy<Value = CacheConfig> {
    let millis = |from: u64, to: u64| (from..to).prop_map(Duration::from_millis);
    let lives = (millis(1, 1 << 40), prop::option::of(millis(1, 1 << 40)), prop::option::of(millis(1, 1 << 30)));
    let rest = ("[a-z*\\[ ]{1,9}", 1..usize::MAX, prop::option::of(1..usize::MAX), 0.0..1.0_f64, millis(50, 3_600_000));
    (lives, rest, 0..1_000_000_u64).prop_map(
        |((ttl, local, negative), (namespace, entries, bytes, jitter, bound), nanos)| {
            let mut config = CacheConfig::new(namespace)
                .max_entries(entries)
                .time_to_live(ttl + Duration::from_nanos(nanos))
                .negative_time_to_live(negative)
                .ttl_jitter(jitter)
                .coherence(Coherence::Broadcast)
                .max_staleness(bound);
            (config.max_bytes, config.local_time_to_live) = (bytes, local);
            config
        },
    )
}

/// Fields, each with a valid value in words that differ from every default.
const LAYERED: [(&str, &str); 10] = [
    ("namespace", "layered"),
    ("local_enabled", "false"),
    ("max_entries", "7"),
    ("max_bytes", "70"),
    ("eviction", "s3-fifo"),
    ("time_to_live", "7m"),
    ("negative_time_to_live", "off"),
    ("ttl_jitter", "0.5"),
    ("coherence", "pub-sub"),
    ("max_staleness", "7s"),
];

/// Lays the fields over a configuration, by the environment or as JSON.
fn lay(config: CacheConfig, fields: &[(&str, &str)], by_environment: bool) -> CacheConfig {
    if by_environment {
        let vars = fields.iter().map(|(field, value)| (format!("A_B_{}", field.to_uppercase()).into(), value.into()));
        return config.with_vars("A_B", vars).unwrap();
    }
    let json = |(field, value): &(&str, &str)| match *field {
        "local_enabled" | "max_entries" | "max_bytes" | "ttl_jitter" => format!("{field:?}: {value}"),
        _ => format!("{field:?}: {value:?}"),
    };
    let fields: Vec<String> = fields.iter().map(json).collect();
    config.with_json(&format!("{{{}}}", fields.join(", "))).unwrap()
}

proptest! {
    #![proptest_config(cases(128))]

    #[test]
    fn a_layer_sets_exactly_the_fields_it_names_in_whatever_order_layers_come(
        config in valid(), fields in prop::sample::subsequence(LAYERED.to_vec(), 0..=LAYERED.len()),
        cut in any::<prop::sample::Index>(), environment_first: bool, json_first: bool,
    ) {
        let cut = cut.index(fields.len() + 1);
        let (one, two) = fields.split_at(cut);
        let there = lay(lay(config.clone(), one, environment_first), two, json_first);
        let back = lay(lay(config.clone(), two, json_first), one, environment_first);
        prop_assert_eq!(&there, &back, "layers that name different fields commute");
        prop_assert_eq!(&there, &lay(config.clone(), &fields, true), "and are one layer");
        let [before, after] = [&config, &there].map(|config| serde_json::to_value(config).unwrap());
        let set = serde_json::to_value(lay(CacheConfig::default(), &LAYERED, false)).unwrap();
        for field in after.as_object().unwrap().keys() {
            let named = fields.iter().any(|(name, _)| name == field);
            let expected = if named { &set[field] } else { &before[field] };
            prop_assert_eq!(&after[field], expected, "{}", field);
        }
    }

    #[test]
    fn of_two_layers_that_name_a_field_the_later_one_sets_it(one in 1..1000_usize, two in 1..1000_usize, by: bool) {
        let [one, two] = [one, two].map(|entries| entries.to_string());
        let config = lay(CacheConfig::default(), &[("max_entries", &one)], by);
        let config = lay(config, &[("max_entries", &two)], !by);
        prop_assert_eq!(config.max_entries.to_string(), two);
    }

    #[test]
    fn every_valid_configuration_survives_being_written_and_read(config in valid()) {
        holds(Ok(config))?;
    }

    #[test]
    fn text_of_any_kind_is_an_error_or_a_valid_configuration(text in ".{0,100}") {
        holds(CacheConfig::from_json(&text))?;
        holds(CacheConfig::from_toml(&text))?;
    }

    #[test]
    fn fields_with_values_of_any_kind_are_an_error_or_a_valid_configuration(
        fields in prop::collection::vec((field(), json_value()), 0..4),
    ) {
        let json: Vec<String> = fields.iter().map(|(field, value)| format!("{field:?}: {value}")).collect();
        holds(CacheConfig::from_json(&format!("{{{}}}", json.join(", "))))?;
        let toml: Vec<String> = fields.iter().map(|(field, value)| format!("{field} = {value}\n")).collect();
        holds(CacheConfig::from_toml(&toml.concat()))?;
    }

    #[test]
    fn a_configuration_mutated_anywhere_is_an_error_or_a_valid_one(
        config in valid(), at: prop::sample::Index, with in ".{0,3}", cut: bool,
    ) {
        let json: Vec<char> = serde_json::to_string(&config).unwrap().chars().collect();
        let at = at.index(json.len());
        let after = if cut { json.len() } else { at + 1 };
        let text: String = json[..at].iter().copied().chain(with.chars()).chain(json[after..].iter().copied()).collect();
        holds(CacheConfig::from_json(&text))?;
    }

    #[test]
    fn variables_of_any_kind_are_an_error_or_a_valid_configuration_and_are_never_quoted(
        vars in prop::collection::vec((field(), word()), 0..4), redis in prop::collection::vec(("[A-Z_]{0,9}", word()), 0..3),
        url in ".{0,30}",
    ) {
        let of_cache = vars.iter().map(|(field, value)| (format!("TWOTIER_{}", field.to_uppercase()), value.clone()));
        let of_redis = redis.into_iter().map(|(field, value)| (format!("TWOTIER_REDIS_{field}"), value));
        let all: Vec<(OsString, OsString)> = of_cache
            .chain(of_redis)
            .chain([("TWOTIER_REDIS_URL".to_owned(), url)])
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        holds(CacheConfig::from_vars(all.clone()))?;
        match RedisConfig::from_vars(all) {
            Ok(config) => prop_assert!(config.validate().is_ok()),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    #[test]
    fn a_url_of_any_kind_is_a_backend_or_an_error_that_names_the_field_and_quotes_nothing(
        scheme in "(redis|rediss|unix|http|)", rest in ".{0,30}", port in any::<u32>(),
    ) {
        for url in [rest.clone(), format!("{scheme}://{rest}"), format!("{scheme}://u:sekret@h{rest}:{port}/{port}")] {
            if let Err(error) = RedisBackend::new(url) {
                prop_assert_eq!(error.field(), "url");
                prop_assert!(!error.to_string().contains("sekret"), "{}", error);
            }
        }
    }
}

#[test]
fn text_nested_deeper_than_any_stack_is_an_error() {
    for text in ["[".repeat(100_000), "{\"max_entries\":".repeat(100_000)] {
        assert!(CacheConfig::from_json(&text).is_err());
    }
    for text in [format!("max_entries = {}", "[".repeat(100_000)), format!("a{} = 1", ".a".repeat(100_000))] {
        assert!(CacheConfig::from_toml(&text).is_err());
    }
}
