//! error[E0277]: `&str` is not a backend
//! = note: a backend is `RedisBackend::new(url)?`, `MemoryBackend::new()`, or what implements `twotier::Backend`

async fn builds() {
    let _ = twotier::Cache::<String>::builder().build("redis://127.0.0.1").await;
}

fn main() {}
