//! The status page: three static files. Everything on it comes from `/v1/status` and `/v1/events`.

use http::header;

type File = ([(http::HeaderName, &'static str); 1], &'static str);

pub(super) async fn index() -> File {
    file("text/html; charset=utf-8", include_str!("page/index.html"))
}

pub(super) async fn script() -> File {
    file(
        "text/javascript; charset=utf-8",
        include_str!("page/page.js"),
    )
}

pub(super) async fn style() -> File {
    file("text/css; charset=utf-8", include_str!("page/page.css"))
}

fn file(kind: &'static str, text: &'static str) -> File {
    ([(header::CONTENT_TYPE, kind)], text)
}
