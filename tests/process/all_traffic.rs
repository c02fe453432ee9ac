//! Rollouts under every kind of traffic, by all three triggers. The longest test, which tests begin with as
//! long as the order is that of their names: at the end it would run alone.

use super::support::checker::assert_clean;
use super::support::instance::Start;
use super::support::load::{Load, Mix};
use super::under_load::{QUICK, trigger};

#[test]
fn twenty_rollouts_by_three_triggers_lose_nothing() {
    let mut instance = Start::default()
        .flags(&QUICK)
        .flags(&["--workers", "3"])
        .ready();
    let load = Load::known_to(&instance, Mix::default(), 50);
    for n in 0..20 {
        let generation = n + 2;
        trigger(&instance, n);
        instance.wait("the rollout to complete", |status| {
            let app = &status["services"]["app"];
            app["generation"] == generation && app["rollout"]["state"] == "completed"
        });
    }
    load.wait_for(50);
    let client = load.stop();
    assert_clean(&client, &instance.dir.path().join("executed"));
}
