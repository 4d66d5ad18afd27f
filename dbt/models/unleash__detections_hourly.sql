with frames as (
  select
    device_id,
    class_name,
    frame_id,
    timestamp,
    count(*) as records,
    sum(count) as objects
  from {{ ref('stg_unleash__analytics') }}
  where not is_metric
  group by device_id, class_name, frame_id, timestamp
),

local_frames as (
  select
    frames.*,
    {{ unleash.local_hour(
      'frames.timestamp', "coalesce(sites.timezone, '" ~ var('unleash_timezone') ~ "')"
    ) }} as hour
  from frames
  left join {{ ref('unleash_sites') }} as sites on frames.device_id = sites.device_id
)

select
  device_id,
  class_name,
  hour,
  cast(sum(records) as {{ dbt.type_bigint() }}) as records,
  count(case when objects > 0 then 1 end) as frames,
  sum(objects) as detections,
  max(objects) as most_in_one_frame
from local_frames
group by device_id, class_name, hour
