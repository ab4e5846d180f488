//! Removing by prefix.

use std::time::Duration;

use super::{
    Fixture,
    scope::{Scope, put, put_many, ready, values, write},
};

/// Everything under the prefix goes and is counted; neighbours with the same stem stay.
pub async fn clearing_removes_the_prefix_and_nothing_else(fixture: &dyn Fixture) {
    let (scope, backend) = (Scope::new(), ready(fixture).await);
    let cleared: Vec<_> = (0..1500).map(|number| scope.key(format!("users:{number}"))).collect();
    let kept =
        ["users", "user:1", "userss:1", "Users:1", "a:users:1", "user", "users;", "users9"].map(|name| scope.key(name));
    let writes: Vec<_> = cleared.iter().chain(&kept).map(|key| write(key, "v", None)).collect();
    put_many(&backend, &writes).await;

    let prefix = scope.key("users:");
    assert_eq!(backend.clear(&prefix).await.expect("a prefix can be cleared"), 1500);
    assert!(values(&backend, &cleared).await.iter().all(Option::is_none), "all under the prefix are gone");
    assert!(values(&backend, &kept).await.iter().all(Option::is_some), "all others are there");
    assert_eq!(backend.clear(&prefix).await.expect("a prefix can be cleared"), 0);
}

/// A prefix is bytes and no pattern, and a key that is the prefix itself starts with it.
pub async fn clearing_takes_the_prefix_as_it_is(fixture: &dyn Fixture) {
    let backend = ready(fixture).await;
    let prefixes: [&[u8]; 9] =
        [br"a*b?[c]\", b"*", b"?", b"[a-z]", b"[^a]", br"\", br"\*", b"\0\r\n\xff", "é{x}".as_bytes()];
    for name in prefixes {
        let scope = Scope::new();
        let prefix = scope.key(name);
        let cleared = [b"".as_slice(), b"1", br"\", b"*"].map(|rest| scope.key([name, rest].concat()));
        // What the prefix would match as a pattern, and what starts like it.
        let names: [&[u8]; 8] = [br"aXbYcZ", br"a*b?c\1", br"a*b?[c]", b"m1", b"a", br"/*", b"\0\r\n", b"x"];
        let kept: Vec<_> = names.iter().filter(|other| !other.starts_with(name)).map(|name| scope.key(name)).collect();
        for key in cleared.iter().chain(&kept) {
            put(&backend, key, "v", None).await;
        }
        let shown = name.escape_ascii();
        assert_eq!(backend.clear(&prefix).await.expect("a prefix can be cleared"), 4, "{shown}");
        assert!(values(&backend, &cleared).await.iter().all(Option::is_none), "{shown}: all under the prefix are gone");
        assert!(values(&backend, &kept).await.iter().all(Option::is_some), "{shown}: all others are there");
    }
}

/// What has expired is not counted.
pub async fn clearing_counts_what_lived(fixture: &dyn Fixture) {
    let (scope, backend) = (Scope::new(), ready(fixture).await);
    let keys = scope.keys(5);
    for (number, key) in keys.iter().enumerate() {
        let ttl = (number < 2).then_some(Duration::from_millis(1));
        put(&backend, key, "v", ttl).await;
    }
    fixture.pass_time(Duration::from_millis(3)).await;
    assert_eq!(backend.clear(scope.namespace.prefix().as_bytes()).await.expect("a prefix can be cleared"), 3);
}
