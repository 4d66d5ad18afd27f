with devices as (
  select distinct device_id from {{ source('unleash', 'devices') }}
),

loaded as (
  select
    device_id,
    min(timestamp) as first_record_at,
    max(timestamp) as last_record_at,
    count(*) as records
  from {{ ref('stg_unleash__analytics') }}
  group by device_id
)

select
  devices.device_id,
  sites.name,
  sites.site,
  sites.timezone,
  loaded.first_record_at,
  loaded.last_record_at,
  coalesce(loaded.records, 0) as records,
  loaded.records * 1.0
    / ({{ dbt.datediff('loaded.first_record_at', 'loaded.last_record_at', 'day') }} + 1) as records_per_day,
  cast({{ dbt.datediff('loaded.last_record_at', unleash.utc(dbt.current_timestamp()), 'hour') }} as {{ dbt.type_bigint() }}) as hours_since_last_record
from devices
left join loaded on devices.device_id = loaded.device_id
left join {{ ref('unleash_sites') }} as sites on devices.device_id = sites.device_id
