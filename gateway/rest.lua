-- What Envoy lacks for REST. Requests: a path that is not UTF-8, and a query with a parameter that the route does not have or
-- that no parameter of its type can be, get 400 with a message for people; a HEAD is answered as a GET. Responses: a HEAD's has
-- no body, one whose ETag the client has already is 304, none shows gRPC's own headers, and streams are as EventSource needs them.
-- `routes` stands above this text (services/cli/local/rest_routes.py).

local NAMESPACE = "tradeul.http"
local SHOWN = 80
-- A client that has lost its stream waits so many milliseconds before it opens another.
local RETRY = "retry: 1000\n"
local OF_GRPC = { "grpc-status", "grpc-message", "grpc-accept-encoding", "grpc-encoding" }

local function decoded(text)
  return (text:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

local function is_utf8(text)
  local index = 1
  while index <= #text do
    local byte, after = text:byte(index, index + 1)
    local size = byte < 128 and 1 or byte < 194 and 0 or byte < 224 and 2 or byte < 240 and 3
      or byte < 245 and 4 or 0
    if size == 0 or not text:find("^" .. ("[\128-\191]"):rep(size - 1), index + 1) then return false end
    -- Surrogates, what is longer than it has to be, and what is beyond Unicode.
    if byte == 224 and after < 160 or byte == 237 and after > 159 then return false end
    if byte == 240 and after < 144 or byte == 244 and after > 143 then return false end
    index = index + size
  end
  return true
end

-- At most SHOWN bytes of a text, without a part of a character at the end.
local function shown(text)
  if #text <= SHOWN then return text end
  return (text:sub(1, SHOWN):gsub("[\192-\255][\128-\191]*$", "")) .. "..."
end

-- The edits that make one text of another.
local function distance(one, other)
  local row = {}
  for column = 0, #other do row[column] = column end
  for index = 1, #one do
    local diagonal = row[0]
    row[0] = index
    for column = 1, #other do
      local changed = diagonal + (one:byte(index) == other:byte(column) and 0 or 1)
      diagonal = row[column]
      row[column] = math.min(changed, row[column] + 1, row[column - 1] + 1)
    end
  end
  return row[#other]
end

local function nearest(name, parameters)
  local best, least
  for each in pairs(parameters) do
    local edits = distance(name:sub(1, SHOWN), each)
    if not least or edits < least or edits == least and each < best then best, least = each, edits end
  end
  return best
end

local function is_whole(value)
  return value:find("^%d+$") and #value <= 10 and tonumber(value) <= 4294967295
end

local function is_number(value)
  local number = value:find("^[%d.eE+-]+$") and tonumber(value)
  return number and math.abs(number) < math.huge
end

local KINDS = {
  whole = { "a whole number of 0 to 4294967295", is_whole },
  number = { "a number", is_number },
  given = { "a value", function(value) return value ~= "" end },
  boolean = { "true or false", function(value) return value == "true" or value == "false" end },
}

local function camel(name)
  return (name:gsub("_(%l)", string.upper))
end

local function route_of(method, path)
  for _, route in ipairs(routes) do
    if route.method == method and path:find(route.pattern) then return route end
  end
end

-- Why the query cannot be one of the route; nil when it can.
local function query_error(parameters, query)
  local given = {}
  for pair in query:gmatch("[^&]+") do
    local name, value = pair:gsub("+", " "):match("^([^=]*)=?(.*)$")
    name, value = decoded(name), decoded(value)
    local kind = parameters[name]
    if not kind then
      -- As in bodies, protobuf's other spelling of a name.
      for each in pairs(parameters) do
        if camel(each) == name then name, kind = each, parameters[each] end
      end
    end
    if not kind then
      local hint = nearest(name, parameters)
      return ('there is no parameter "%s"'):format(shown(name))
        .. (hint and ('; the nearest is "%s"'):format(hint) or ": this route has none")
    end
    if given[name] and kind ~= "list" then
      return ("%s: expected one value, was several"):format(name)
    end
    given[name] = true
    local check = KINDS[kind]
    if check and not check[2](value) then
      return ('%s: expected %s, was "%s"'):format(name, check[1], shown(value))
    end
  end
end

local function request_error(path, query, route)
  local text = decoded(path)
  if not is_utf8(text) or not is_utf8(decoded(query)) then return "expected UTF-8 in the path and query" end
  return route and query_error(route.parameters, query)
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local method = headers:get(":method")
  local path, query = (headers:get(":path") or ""):match("^([^?]*)%??(.*)$")
  local is_head = method == "HEAD"
  local route = route_of(is_head and "GET" or method, path)
  local problem = request_error(path, query, route)
  if problem then
    handle:respond({ [":status"] = "400" }, problem)
    return
  end
  local metadata = handle:streamInfo():dynamicMetadata()
  local watch = path:find(":watch/?$")
  if is_head then
    metadata:set(NAMESPACE, watch and "watch" or "head", true)
    headers:replace(":method", "GET")
    -- The service checks the request, and ends the stream before its first message.
    if watch then headers:replace("x-tradeul-head", "1") end
  end
  if watch and method == "GET" then
    local accepts = (headers:get("accept") or ""):find("text/event-stream", 1, true)
    metadata:set(NAMESPACE, "stream", accepts and "event source" or "other")
  end
  local known = headers:get("if-none-match")
  if known and (is_head or method == "GET") then metadata:set(NAMESPACE, "known", known) end
end

local function is_known(known, etag)
  for each in (known or ""):gmatch("[^,%s]+") do
    if each == "*" or each:gsub("^W/", "") == etag:gsub("^W/", "") then return true end
  end
  return false
end

-- An EventSource gives up when the response is not 200, and reconnects when a stream ends: 503 becomes an empty stream for it.
-- Any other stream begins with `retry`.
local function as_events(handle, headers, client)
  local status = headers:get(":status")
  if status == "503" and client == "event source" then
    headers:replace(":status", "200")
    headers:replace("content-type", "text/event-stream")
    for _, name in ipairs({ "content-length", "content-encoding", "retry-after" }) do headers:remove(name) end
    handle:body(true):setBytes(RETRY .. "\n")
  elseif status == "200" then
    for chunk in handle:bodyChunks() do
      if chunk:length() > 0 then
        chunk:setBytes(RETRY .. chunk:getBytes(0, chunk:length()))
        return
      end
    end
  end
end

function envoy_on_response(handle)
  local headers = handle:headers()
  if not (headers:get("content-type") or ""):find("^application/grpc") then
    for _, name in ipairs(OF_GRPC) do headers:remove(name) end
  end
  local request = handle:streamInfo():dynamicMetadata():get(NAMESPACE)
  if not request then return end
  if request.stream then return as_events(handle, headers, request.stream) end
  if request.watch and headers:get(":status") == "200" then headers:replace("content-type", "text/event-stream") end
  local etag = headers:get("etag")
  local same = etag and headers:get(":status") == "200" and is_known(request.known, etag)
  if same then
    headers:replace(":status", "304")
    -- As of the response that the client has.
    headers:replace("vary", "Accept-Encoding")
    headers:remove("content-length")
    headers:remove("content-type")
  end
  if same or request.head or request.watch then
    for chunk in handle:bodyChunks() do chunk:setBytes("") end
  end
end
