//! Three sensors at different rates, one dashboard: `combine_latest`.

use std::time::Duration;

use anyhow::Result;
use futures::stream::iter;
use millstream::{Event, Runtime, flow, operators::combine::combine_latest};
use serde::{Deserialize, Serialize};

use crate::screen::Screen;

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(name = "sensor.temperature")]
struct Temperature {
    tenths_celsius: u64,
}

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(name = "sensor.humidity")]
struct Humidity {
    percent: u64,
}

#[derive(Event, Clone, Serialize, Deserialize)]
#[event(name = "sensor.pressure")]
struct Pressure {
    number: u64,
    hectopascal: u64,
}

/// How many readings each sensor gives, and how far apart: three seconds of each.
const TEMPERATURE: (u64, Duration) = (60, Duration::from_millis(50));
const HUMIDITY: (u64, Duration) = (25, Duration::from_millis(120));
const PRESSURE: (u64, Duration) = (6, Duration::from_millis(500));

/// A sensor: readings at a fixed rate, the first at once.
async fn measure<E: Event>(
    runtime: &Runtime,
    (readings, every): (u64, Duration),
    read: impl Fn(u64) -> E,
) -> Result<u64> {
    let readings = flow(iter(0..readings)).rate_limit(every).map(read);
    Ok(runtime.forward(readings).await?.emitted)
}

/// A value that goes up and down between 0 and `top`.
fn wave(number: u64, top: u64) -> u64 {
    let phase = number % (2 * top);
    phase.min(2 * top - phase)
}

pub(crate) async fn run() -> Result<String> {
    let runtime = Runtime::builder().build()?;
    // Each stream at its own rate; whenever one speaks, the latest of all three.
    let rows = combine_latest((
        runtime.stream::<Temperature>("sensor.temperature"),
        runtime.stream::<Humidity>("sensor.humidity"),
        runtime.stream::<Pressure>("sensor.pressure"),
    ));
    let screen = Screen::new(&["temperature", "humidity", "pressure"])?;
    let (mut frames, mut seen) = (0, None);
    let drawn = rows.for_each(|(temperature, humidity, pressure)| {
        frames += 1;
        let Temperature { tenths_celsius } = temperature;
        let gauges = [
            (tenths_celsius / 4, format!("{}.{} °C", tenths_celsius / 10, tenths_celsius % 10)),
            (humidity.percent, format!("{} %", humidity.percent)),
            (pressure.hectopascal - 970, format!("{} hPa", pressure.hectopascal)),
        ];
        // Where nothing can be drawn in place, a line each time the slowest speaks says enough.
        screen.show(&gauges, seen.replace(pressure.number) != Some(pressure.number));
    });
    let dashboard = async {
        drawn.await;
        Ok(())
    };
    let sensors = async {
        let temperature = measure(&runtime, TEMPERATURE, |n| Temperature { tenths_celsius: 180 + wave(3 * n, 70) });
        let humidity = measure(&runtime, HUMIDITY, |n| Humidity { percent: 35 + wave(2 * n, 25) });
        let pressure = measure(&runtime, PRESSURE, |number| Pressure { number, hectopascal: 1_008 + wave(number, 9) });
        let emitted = tokio::try_join!(temperature, humidity, pressure)?;
        runtime.shutdown(Duration::from_secs(1)).await?;
        anyhow::Ok(emitted.0 + emitted.1 + emitted.2)
    };
    // `run` ends with the shutdown, and so do the streams; the first that fails ends all.
    let drive = async { Ok(runtime.run().await?) };
    let (emitted, ..) = tokio::try_join!(sensors, drive, dashboard)?;
    screen.finish();
    assert_eq!(emitted, TEMPERATURE.0 + HUMIDITY.0 + PRESSURE.0);
    // There is no row before each has spoken; then one for each reading.
    assert_eq!(frames, emitted - 2);
    Ok(format!("{emitted} readings of 3 sensors, {frames} rows of the dashboard"))
}
