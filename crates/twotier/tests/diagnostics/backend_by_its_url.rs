//! error[E0277]: `&str` is not a backend
//! = note: a backend is a `RedisBackend::new(url)?`, a `MemoryBackend::new()`, or a type that implements `twotier::Backend`

async fn builds() {
    let _ = twotier::Cache::<String>::builder().build("redis://127.0.0.1").await;
}

fn main() {}
