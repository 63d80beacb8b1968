use millstream::Runtime;

struct NotAnEvent;

fn main() {
    let runtime = Runtime::builder().build().unwrap();
    let _ = runtime.emit(NotAnEvent);
}
