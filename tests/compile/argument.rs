use millstream::Runtime;

struct NotAnEvent;

async fn handler(_: NotAnEvent) {}

fn main() {
    let runtime = Runtime::builder().build().unwrap();
    let _ = runtime.on("a", handler);
}
