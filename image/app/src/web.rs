//! Pages and answers.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};

use crate::log;
use crate::store::{BOXES, Store, StoreError};

struct App {
    name: String,
    site: String,
    store: Store,
}

/// All that the app answers to.
pub fn router(name: String, site: String, store: Store) -> Router {
    let app = Arc::new(App { name, site, store });
    Router::new()
        .route("/", get(page))
        .route("/counter", get(counter))
        .route("/boxes/{number}", get(look).put(tick))
        .route("/healthz", get(health))
        .layer(from_fn_with_state(Arc::clone(&app), around))
        .with_state(app)
}

async fn page(State(app): State<Arc<App>>) -> Response {
    let (status, sentence) = match app.store.count().await {
        Ok(count) => (
            StatusCode::OK,
            format!("This page was asked for {count} times."),
        ),
        Err(error) => (
            unavailable(&error),
            "The counter is out of reach just now.".to_owned(),
        ),
    };
    let (site, name) = (escape(&app.site), escape(&app.name));
    let html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{site}</title>\n\
         <h1>{site}</h1>\n<p>{sentence}</p>\n<p>Answered by {name}.</p>\n</html>\n"
    );
    (status, Html(html)).into_response()
}

async fn counter(State(app): State<Arc<App>>) -> Response {
    match app.store.read().await {
        Ok(count) => json_answer(
            StatusCode::OK,
            &json!({ "counter": count, "app": app.name }),
        ),
        Err(error) => json_answer(unavailable(&error), &json!({ "error": error.to_string() })),
    }
}

/// Ticks a box. To do that twice is the same as once, so whoever got no answer may ask again.
async fn tick(State(app): State<Arc<App>>, Path(number): Path<u32>) -> Response {
    if number >= BOXES {
        return StatusCode::NOT_FOUND.into_response();
    }
    let done = app.store.tick(number).await.map(|()| true);
    box_answer(&app, number, done)
}

async fn look(State(app): State<Arc<App>>, Path(number): Path<u32>) -> Response {
    if number >= BOXES {
        return StatusCode::NOT_FOUND.into_response();
    }
    let found = app.store.is_ticked(number).await;
    box_answer(&app, number, found)
}

fn box_answer(app: &App, number: u32, ticked: Result<bool, StoreError>) -> Response {
    match ticked {
        Ok(ticked) => json_answer(
            StatusCode::OK,
            &json!({ "box": number, "ticked": ticked, "app": app.name }),
        ),
        Err(error) => json_answer(unavailable(&error), &json!({ "error": error.to_string() })),
    }
}

async fn health(State(app): State<Arc<App>>) -> (StatusCode, &'static str) {
    match app.store.ping().await {
        Ok(()) => (StatusCode::OK, "ok\n"),
        Err(error) => (unavailable(&error), "no database\n"),
    }
}

/// Says who answered, and logs what was asked.
async fn around(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().to_string();
    let path = request.uri().path().to_owned();
    let client = client(request.headers());
    let mut response = next.run(request).await;
    if let Ok(name) = HeaderValue::from_str(&app.name) {
        response.headers_mut().insert("x-app", name);
    }
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let status = response.status();
    // Health checks come every second or two; only the bad ones are news.
    if path != "/healthz" || !status.is_success() {
        let fields: [(&str, Value); 5] = [
            ("client", client.into()),
            ("method", method.into()),
            ("path", path.into()),
            ("status", status.as_u16().into()),
            ("seconds", began.elapsed().as_secs_f64().into()),
        ];
        log::line(
            if status.is_server_error() {
                "error"
            } else {
                "info"
            },
            &fields,
        );
    }
    response
}

/// The user's address as the proxy in front of us says.
fn client(headers: &HeaderMap) -> Option<String> {
    Some(headers.get("x-forwarded-for")?.to_str().ok()?.to_owned())
}

fn unavailable(error: &StoreError) -> StatusCode {
    log::line("warning", &[("message", error.to_string().into())]);
    StatusCode::SERVICE_UNAVAILABLE
}

fn json_answer(status: StatusCode, body: &Value) -> Response {
    (
        status,
        [(header::CONTENT_TYPE, "application/json")],
        format!("{body}\n"),
    )
        .into_response()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use tower::ServiceExt as _;

    use super::*;
    use crate::config::Database;

    /// A port of the loopback that nobody listens on: refused at once.
    fn without_database() -> Router {
        let closed = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let settings = Database {
            address: closed,
            name: "app".into(),
            user: "app".into(),
            password: "secret".into(),
            tls: None,
        };
        router("app1".into(), "<foobar>".into(), Store::new(&settings))
    }

    async fn ask(path: &'static str) -> (StatusCode, HeaderMap, String) {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        let response = without_database().oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let body = to_bytes(response.into_body(), 1 << 16).await.unwrap();
        (status, headers, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn without_a_database_every_answer_says_so() {
        // Each waits for a database as long as its user does: at the same time.
        let paths = ["/", "/counter", "/healthz", "/boxes/7"];
        let asked = paths.map(|path| (path, tokio::spawn(ask(path))));
        for (path, asked) in asked {
            let (status, headers, _) = asked.await.unwrap();
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
            assert_eq!(headers["x-app"], "app1", "{path}");
            assert_eq!(headers["cache-control"], "no-store", "{path}");
        }
        for path in ["/nothing", "/boxes/1000000"] {
            assert_eq!(ask(path).await.0, StatusCode::NOT_FOUND, "{path}");
        }
        for path in ["/boxes/-1", "/boxes/x"] {
            assert_eq!(ask(path).await.0, StatusCode::BAD_REQUEST, "{path}");
        }
    }

    #[tokio::test]
    async fn the_page_names_the_site_and_who_answered() {
        let (_, headers, body) = ask("/").await;
        assert_eq!(headers["content-type"], "text/html; charset=utf-8");
        assert!(body.contains("<h1>&lt;foobar&gt;</h1>"), "{body}");
        assert!(body.contains("Answered by app1."), "{body}");
    }
}
