//! `tokio-tungstenite` on a runtime with one thread.

use std::net::Ipv4Addr;
use std::thread;

use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, accept_async, accept_async_with_config};

use peers::Failure;

/// Is the server.
pub(super) fn run(is_tuned: bool) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        runtime.block_on(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A peer that breaks off is none of this program's business.
                let _ = stream.set_nodelay(true);
                tokio::spawn(async move {
                    let _ = if is_tuned {
                        batches(stream).await
                    } else {
                        one_by_one(stream).await
                    };
                });
            }
        });
    });
    super::ready(port, |_| Ok(()))
}

/// Sends each message back, as the examples do.
async fn one_by_one(stream: TcpStream) -> Result<(), Error> {
    let mut socket = accept_async(stream).await?;
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() {
            socket.send(message).await?;
        }
    }
    Ok(())
}

/// Sends the messages that have come back together.
async fn batches(stream: TcpStream) -> Result<(), Error> {
    let config = WebSocketConfig::default()
        .read_buffer_size(4 << 10)
        .write_buffer_size(4 << 10);
    let mut socket: WebSocketStream<TcpStream> =
        accept_async_with_config(stream, Some(config)).await?;
    while let Some(message) = socket.next().await {
        let mut next = Some(message);
        while let Some(message) = next {
            let message = message?;
            if message.is_text() {
                socket.feed(message).await?;
            }
            next = socket.next().now_or_never().flatten();
        }
        socket.flush().await?;
    }
    Ok(())
}
