//! All functions on one port, and the clock that starts the scheduled one. Only the embedded stack uses this;
//! on AWS each function is a separate Lambda.

mod clock;

use std::sync::Arc;
use std::{env, io, thread};

use axum::Router;
use axum::routing::get;
use opusflair::{problem, telemetry};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    telemetry::init();
    let app = Arc::new(marking::app_from_env()?);
    let address = env::var("FUNCTIONS_ADDRESS").unwrap_or_else(|_| "127.0.0.1:54323".to_owned());

    let routes = Router::new()
        .route("/health", get(|| async { "ok" }))
        .merge(cleanup::operator_routes(app.clone()))
        .merge(submit::routes(app.clone()))
        .merge(privacy::routes(app.clone()))
        .merge(privacy_inbox::routes(app.clone()))
        .merge(replicate_webhook::routes(app.clone()));
    let interval = clock::interval()?;
    clock::start(&app, interval).await;
    let listener = TcpListener::bind(&address).await?;
    tracing::info!(port = listener.local_addr()?.port(), "listening");

    let routes = problem::with_boundary(&app, routes);
    let clock = tokio::spawn(clock::run(app, interval));
    axum::serve(listener, routes).with_graceful_shutdown(ended()).await?;
    clock.abort();
    Ok(())
}

/// Resolves when this process is asked to end: by a signal, or, with `EXIT_WITH_STDIN=1`, when the parent
/// process is gone and standard input closes.
async fn ended() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => drop(terminate.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
        () = stdin_closed(), if env::var("EXIT_WITH_STDIN").is_ok_and(|value| value == "1") => {}
    }
}

/// A separate thread reads standard input, because a task that reads would keep the runtime from ending.
async fn stdin_closed() {
    let (closed, told) = oneshot::channel();
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = closed.send(());
    });
    let _ = told.await;
}
