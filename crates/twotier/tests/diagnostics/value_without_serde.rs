//! error[E0277]: the trait bound `User: serde::Serialize` is not satisfied
//! = note: for local types consider adding `#[derive(serde::Serialize)]` to your `User` type

struct User;

async fn builds(backend: twotier::MemoryBackend) {
    let _ = twotier::Cache::<User>::builder().build(backend).await;
}

fn main() {}
