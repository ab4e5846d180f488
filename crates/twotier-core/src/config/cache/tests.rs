//! What is read, what is refused, and which name the refusal has.

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
        ("TWOTIER_SHARE_ABSENCE", "true"),
        ("TWOTIER_SLIDING", "0.1"),
        ("TWOTIER_TTL_JITTER", "0.25"),
        ("TWOTIER_COHERENCE", "none"),
        ("TWOTIER_MAX_STALENESS", "1s"),
        ("TWOTIER_OP_TIMEOUT", "100ms"),
        ("TWOTIER_LOAD_TIMEOUT", "10s"),
        ("TWOTIER_LOAD_WAIT", "3s"),
        ("TWOTIER_MAX_VALUE_BYTES", "4096"),
        ("TWOTIER_ON_UNDECODABLE", "miss"),
        ("TWOTIER_VERIFY_WRITES", "off"),
        ("TWOTIER_MAX_IN_FLIGHT", "64"),
        ("TWOTIER_MAX_WAITING", "0"),
        ("TWOTIER_QUEUE_INVALIDATIONS", "9"),
        ("TWOTIER_OUTAGE_LOADS", "5"),
        ("TWOTIER_OUTAGE_TIME_TO_LIVE", "6s"),
        ("TWOTIER_STALE_IF_ERROR", "5m"),
        ("TWOTIER_SOFT_TIMEOUT", "50ms"),
        ("TWOTIER_REVALIDATE", "4"),
        ("TWOTIER_BREAKER_FAILURES", "7"),
        ("TWOTIER_BREAKER_SILENCE", "2s"),
        ("TWOTIER_BREAKER_PAUSE", "4s"),
        ("TWOTIER_SIZE_ADVICE", "true"),
        ("TWOTIER_AUDIT", "0.5"),
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
        share_absence: true,
        sliding: 0.1,
        ttl_jitter: 0.25,
        coherence: Some(Coherence::None),
        max_staleness: Duration::from_secs(1),
        op_timeout: Duration::from_millis(100),
        load_timeout: Duration::from_secs(10),
        load_wait: Duration::from_secs(3),
        queue_invalidations: 9,
        outage_loads: 5,
        outage_time_to_live: Some(Duration::from_secs(6)),
        stale_if_error: Some(Duration::from_secs(300)),
        soft_timeout: Some(Duration::from_millis(50)),
        revalidate: Some(4),
        max_value_bytes: 4096,
        on_undecodable: OnUndecodable::Miss,
        verify_writes: false,
        max_in_flight: 64,
        max_waiting: 0,
        breaker_failures: 7,
        breaker_silence: Duration::from_secs(2),
        breaker_pause: Duration::from_secs(4),
        size_advice: true,
        audit: 0.5,
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
    for (name, value) in [("TWOTIER_PORTS", "80"), ("TWOTIER_PORT", "6379"), ("TWOTIER_PORT_HTTP", "80")] {
        let error = CacheConfig::from_vars(vars(&[(name, value)])).unwrap_err();
        assert_eq!(error.variable(), Some(name), "what is not one of them is an unknown field");
    }
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
        ("TWOTIER_ON_UNDECODABLE", "sekret", "on_undecodable"),
        ("TWOTIER_VERIFY_WRITES", "sekret", "verify_writes"),
        ("TWOTIER_TTL_JITTER", "NaN", "ttl_jitter"),
    ] {
        let error = CacheConfig::from_vars(vars(&[(name, value)])).unwrap_err();
        assert_eq!((error.field(), error.variable()), (field, Some(name)), "{name}={value}: {error}");
        assert!(error.to_string().contains(name), "{error}");
        assert!(!error.to_string().contains("sekret"), "{error}");
    }
}

#[test]
fn a_layer_sets_what_it_names_and_nothing_else() {
    let config = CacheConfig::new("users").max_entries(10_000).op_timeout(Duration::from_millis(100));
    let config = config.with_json(r#"{"max_entries": 7, "max_staleness": "1s"}"#).unwrap();
    let config = config.with_vars("MYAPP_CACHE", vars(&[("MYAPP_CACHE_MAX_STALENESS", "3s")])).unwrap();
    let expected = CacheConfig::new("users").max_entries(7).op_timeout(Duration::from_millis(100));
    assert_eq!(config, expected.max_staleness(Duration::from_secs(3)));
}

#[test]
fn a_layer_can_turn_off_what_a_layer_below_turned_on() {
    let config = CacheConfig::new("users").time_to_live(Duration::from_secs(60)).max_bytes(7);
    let config = config.with_vars("P", vars(&[("P_TIME_TO_LIVE", "off")])).unwrap();
    assert_eq!((config.time_to_live, config.max_bytes), (None, Some(7)));
    assert_eq!(config.negative_time_to_live, Some(Duration::from_secs(5)), "off was said of the other field");
}

#[test]
fn variables_are_read_under_any_prefix_and_only_under_that() {
    let all = vars(&[
        ("MYAPP_CACHE_MAX_ENTRIES", "7"),
        ("MYAPP_CACHE_REDIS_URL", "redis://h"),
        ("MYAPP_CACHES_MAX_ENTRIES", "8"),
        ("MYAPP_CACHE", "x"),
        ("XMYAPP_CACHE_MAX_ENTRIES", "9"),
        ("myapp_cache_max_entries", "10"),
        ("TWOTIER_MAX_ENTIRES", "11"),
    ]);
    for prefix in ["MYAPP_CACHE", "MYAPP_CACHE_"] {
        assert_eq!(CacheConfig::default().with_vars(prefix, all.clone()).unwrap().max_entries, 7);
    }
    for prefix in ["", "_", "MY-APP", "MYAPP CACHE", "A=B", "Ä"] {
        assert_eq!(CacheConfig::default().with_vars(prefix, all.clone()).unwrap_err().field(), "prefix");
    }
}

#[test]
fn services_called_like_any_prefix_are_passed_over() {
    let services = vars(&[
        ("MYAPP_CACHE_SERVICE_HOST", "10.0.0.1"),
        ("MYAPP_CACHE_SERVICE_PORT", "6379"),
        ("MYAPP_CACHE_SERVICE_PORT_CLIENT", "6379"),
        ("MYAPP_CACHE_PORT", "tcp://10.0.0.1:6379"),
        ("MYAPP_CACHE_PORT_6379_TCP", "tcp://10.0.0.1:6379"),
        ("MYAPP_CACHE_PORT_6379_TCP_ADDR", "10.0.0.1"),
        ("MYAPP_CACHE_PORT_6379_TCP_PORT", "6379"),
        ("MYAPP_CACHE_PORT_6379_TCP_PROTO", "tcp"),
    ]);
    let config = CacheConfig::default().with_vars("MYAPP_CACHE", services).unwrap();
    assert_eq!(config, CacheConfig::default());
}

#[test]
fn no_field_is_called_like_a_variable_of_a_service() {
    let fields = serde_json::to_value(CacheConfig::default().max_bytes(1)).unwrap();
    for field in fields.as_object().unwrap().keys() {
        let variable = format!("TWOTIER_{}", field.to_uppercase());
        let error = CacheConfig::from_vars(vars(&[(&variable, "tcp://x y")]));
        assert!(error.is_err() || field == "namespace", "{field} is passed over");
    }
}

#[test]
fn a_variable_that_is_empty_twice_there_or_in_small_letters_is_named() {
    for pairs in [
        &[("TWOTIER_MAX_ENTRIES", "")][..],
        &[("TWOTIER_max_entries", "7")],
        &[("TWOTIER_", "7")],
        &[("TWOTIER_MAX_ENTRIES", "7"), ("TWOTIER_MAX_ENTRIES", "8")],
    ] {
        let error = CacheConfig::from_vars(vars(pairs)).unwrap_err();
        assert_eq!(error.variable(), Some(pairs[0].0), "{error}");
    }
    let both = vars(&[("TWOTIER_MAX_ENTRIES", "7"), ("TWOTIER_LOCAL_CACHE_SIZE", "8")]);
    assert_eq!(CacheConfig::from_vars(both).unwrap_err().field(), "max_entries");
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_no_utf8_is_named_and_not_quoted() {
    use std::os::unix::ffi::OsStringExt;

    let name = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let error = CacheConfig::from_vars([("TWOTIER_NAMESPACE".into(), name(b"sekret\xff"))]).unwrap_err();
    assert_eq!(error.to_string(), "environment variable `TWOTIER_NAMESPACE` is not valid UTF-8");
    let error = CacheConfig::from_vars([(name(b"TWOTIER_\xff\n"), "7".into())]).unwrap_err();
    assert_eq!(error.variable(), Some("TWOTIER_\u{fffd}\\n"));
}

#[test]
fn a_layer_is_part_of_a_configuration_of_another_program() {
    #[derive(Deserialize)]
    struct Program {
        cache: CacheLayer,
        redis: crate::RedisLayer,
    }
    let text = r#"{"cache": {"max_entries": 7}, "redis": {"dead_after": "3s"}}"#;
    let program: Program = serde_json::from_str(text).unwrap();
    assert_eq!(CacheConfig::new("n").with(program.cache), CacheConfig::new("n").max_entries(7));
    let redis = crate::RedisConfig::new("redis://h");
    assert_eq!(redis.clone().with(program.redis), redis.dead_after(Duration::from_secs(3)));
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
        (r#"{"on_undecodable": "sekret"}"#, "expected `error` or `miss`"),
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
    for toml in ["max_entries = \"sekret\"", "time_to_live = \"sekret\"", "namespace = \"sekret", "namespace = sekret"]
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
        ("share_absence", CacheConfig { share_absence: true, local_enabled: false, ..base() }),
        ("sliding", CacheConfig { sliding: 0.6, time_to_live: Some(Duration::from_secs(1)), ..base() }),
        ("sliding", CacheConfig { sliding: f64::NAN, time_to_live: Some(Duration::from_secs(1)), ..base() }),
        ("sliding", CacheConfig { sliding: 0.1, time_to_live: None, ..base() }),
        ("ttl_jitter", CacheConfig { ttl_jitter: 1.0, ..base() }),
        ("ttl_jitter", CacheConfig { ttl_jitter: f64::NAN, ..base() }),
        ("audit", CacheConfig { audit: -0.1, ..base() }),
        ("audit", CacheConfig { audit: 1000.1, ..base() }),
        ("audit", CacheConfig { audit: f64::NAN, ..base() }),
        ("max_staleness", CacheConfig { max_staleness: Duration::ZERO, ..base() }),
        ("op_timeout", CacheConfig { op_timeout: Duration::ZERO, ..base() }),
        ("load_timeout", CacheConfig { load_timeout: Duration::ZERO, ..base() }),
        ("load_wait", CacheConfig { load_wait: Duration::MAX, ..base() }),
        ("queue_invalidations", CacheConfig { queue_invalidations: usize::MAX, ..base() }),
        ("outage_loads", CacheConfig { outage_loads: 0, ..base() }),
        ("outage_time_to_live", CacheConfig { outage_time_to_live: Some(Duration::MAX), ..base() }),
        ("stale_if_error", CacheConfig { stale_if_error: Some(Duration::ZERO), ..base() }),
        ("stale_if_error", CacheConfig { stale_if_error: Some(Duration::MAX), ..base() }),
        ("soft_timeout", CacheConfig { soft_timeout: Some(Duration::ZERO), ..base() }),
        ("breaker_silence", CacheConfig { breaker_silence: Duration::ZERO, ..base() }),
        ("breaker_pause", CacheConfig { breaker_pause: Duration::MAX, ..base() }),
        ("max_value_bytes", CacheConfig { max_value_bytes: 0, ..base() }),
        ("max_in_flight", CacheConfig { max_in_flight: 0, ..base() }),
        ("max_in_flight", CacheConfig { max_in_flight: usize::MAX, ..base() }),
    ];
    for (field, config) in cases {
        assert_eq!(config.validate().unwrap_err().field(), field);
    }
}
