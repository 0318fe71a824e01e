-- Orders of the first quarter of 2024, four a day.
create table orders (
  order_id integer primary key,
  placed_at text not null,
  amount integer not null
);
with recursive n(i) as (select 0 union all select i + 1 from n where i < 363)
insert into orders
select i + 1, strftime('%Y-%m-%dT%H:%M:%SZ', '2024-01-01', (i * 6) || ' hours'), 10 from n;
