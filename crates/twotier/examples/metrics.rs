//! A process whose caches Prometheus scrapes: `GET /metrics`, on tokio alone.
//!
//! ```text
//! cargo run --example metrics --features prometheus-text -- [address, default 127.0.0.1:9464] [redis URL]
//! ```
//!
//! Prints the address, and serves until standard input ends.
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::{error::Error, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use twotier::{
    Cache, MemoryBackend, RedisBackend,
    prometheus::{CONTENT_TYPE, Registry},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:9464".to_owned());
    let builder = Cache::builder().namespace("users").max_entries(100);
    let users: Cache<String> = match arguments.next() {
        Some(url) => builder.build(RedisBackend::new(&url)?).await?,
        None => builder.build(MemoryBackend::new()).await?,
    };

    let registry = Registry::new();
    registry.register(&users);

    // What there is to be seen: 150 keys in a tier of 100 entries, each asked for twice.
    for id in 0..150_u64 {
        users.get_or_load(id, async |id: u64| Ok::<_, std::io::Error>(format!("user {id}"))).await?;
        users.get(id).await?;
    }

    let listener = TcpListener::bind(address).await?;
    println!("http://{}/metrics", listener.local_addr()?);
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let registry = registry.clone();
            tokio::spawn(async move { timeout(Duration::from_secs(5), serve(stream, &registry)).await });
        }
    });
    tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink()).await?;
    serving.abort();
    users.close().await;
    Ok(())
}

/// Answers one request.
async fn serve(stream: TcpStream, registry: &Registry) -> std::io::Result<()> {
    // No more is read of what a stranger may send.
    let mut stream = BufReader::new(stream.take(8192));
    let (mut request, mut header) = (String::new(), String::new());
    stream.read_line(&mut request).await?;
    // Read to its end, or the connection would be reset under the answer.
    while stream.read_line(&mut header).await? > 2 {
        header.clear();
    }
    let (status, body) = match request.split(' ').take(2).collect::<Vec<_>>()[..] {
        ["GET", "/metrics"] => ("200 OK", registry.render()),
        _ => ("404 Not Found", String::new()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let mut stream = stream.into_inner().into_inner();
    stream.write_all((head + &body).as_bytes()).await?;
    stream.shutdown().await
}
