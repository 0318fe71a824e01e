-- Runs once for each month, with its receipt in one transaction; and again in each later run.
delete from months where month = strftime('%Y-%m', {partition.start});
insert into months
select strftime('%Y-%m', {partition.start}), count(*), sum(amount)
from orders
where placed_at >= {partition.start} and placed_at < {partition.end};
