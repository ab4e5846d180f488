//! error[E0277]: `Json` is not a codec for `User`
//! = note: derive `serde::Serialize` and `serde::Deserialize` for the value, or set another codec by `.codec(…)`

struct User;

async fn builds(backend: twotier::MemoryBackend) {
    let _ = twotier::Cache::<User>::builder().build(backend).await;
}

fn main() {}
