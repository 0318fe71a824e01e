create table customers (
  customer_id bigint primary key,
  email text not null,
  country text not null
);
insert into customers
select i, 'customer' || i || '@example.org', (array['de', 'fr', 'it', 'pl'])[1 + i % 4]
from generate_series(1, 5000) i;
