//! The data that the demo and the suites stand on is what it is said to be.

use highwater_integration_tests::digest::{
    digest_postgres_query, digest_sqlite, digest_sqlite_query,
};
use highwater_integration_tests::flights::{JANUARY_ROWS, KEY, january, make_source};
use highwater_integration_tests::{FlightsFull, Postgres};
use jiff::civil::DateTime;
use jiff::tz::TimeZoneDatabase;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, SqliteConnection};

#[tokio::test]
async fn each_january_flight_stands_in_the_hour_of_new_york_that_it_says() {
    // GIVEN the shipped flights in a database
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("source.db");
    assert_eq!(
        make_source(&january(), &database).await.unwrap(),
        JANUARY_ROWS
    );
    let options = SqliteConnectOptions::new().filename(&database);
    let mut conn = SqliteConnection::connect_with(&options).await.unwrap();
    // WHEN each flight's instant is derived anew from its date and hour on the clocks of New York
    let select =
        "select distinct year, month, day, hour, time_hour from flights order by time_hour";
    let hours: Vec<(i16, i8, i8, i8, String)> =
        sqlx::query_as(select).fetch_all(&mut conn).await.unwrap();
    let zone = TimeZoneDatabase::bundled().get("America/New_York").unwrap();
    // THEN it is the one in the file
    assert!(hours.len() > 31 * 17, "{}", hours.len());
    for (year, month, day, hour, instant) in hours {
        let derived = DateTime::new(year, month, day, hour, 0, 0, 0)
            .unwrap()
            .to_zoned(zone.clone())
            .unwrap();
        assert_eq!(derived.timestamp().to_string(), instant);
    }
}

#[tokio::test]
async fn the_year_loads_into_postgres_and_its_january_is_the_shipped_one() {
    // GIVEN the whole year in PostgreSQL and the shipped month in SQLite
    let server = Postgres::start().await.unwrap();
    FlightsFull::find()
        .await
        .unwrap()
        .load(&server.url("postgres"))
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("source.db");
    make_source(&january(), &database).await.unwrap();
    // WHEN both are digested, the instants in one form
    let year = digest_postgres_query(&server.url("postgres"), "select * from flights")
        .await
        .unwrap();
    let columns = "year, month, day, dep_time, sched_dep_time, dep_delay, arr_time, \
        sched_arr_time, arr_delay, carrier, flight, tailnum, origin, dest, air_time, distance, \
        hour, minute";
    let instant = r#"to_char(time_hour, 'YYYY-MM-DD"T"HH24:MI:SS"Z"')"#;
    let query = format!("select {columns}, {instant} from flights where month = 1 order by {KEY}");
    let month = digest_postgres_query(&server.url("postgres"), &query)
        .await
        .unwrap();
    // THEN the year has all its flights, and its January is ours
    assert_eq!(year.rows, FlightsFull::ROWS);
    assert_eq!(
        digest_sqlite(&database, "flights", KEY).await.unwrap(),
        month
    );
    let same = format!("select {columns}, time_hour from flights order by {KEY}");
    assert_eq!(digest_sqlite_query(&database, &same).await.unwrap(), month);
}
