# What a Ruby program does with the gem `stomp`; prints a line for each step. Arguments: port, CA file or "".

require "stomp"

port, trusted = ARGV
ssl = trusted.empty? ? false : Stomp::SSLParams.new(ts_files: trusted, use_ruby_ciphers: true)

%w[1.0 1.1 1.2].each do |version|
  headers = { "accept-version" => version, "host" => "h", "heart-beat" => "2000,2000" }
  client = Stomp::Client.new(
    hosts: [{ login: "ada", passcode: "lovelace", host: "127.0.0.1", port: port.to_i, ssl: ssl }],
    connect_headers: headers, reliable: false, start_timeout: 20
  )
  puts "connected #{client.connection_frame.headers['version'] || '1.0'}"
  received = Queue.new
  client.subscribe("/topic/ruby", { "id" => "s1" }) { |message| received << message }
  options = version == "1.0" ? {} : { "mood" => "a:b\nd" }
  receipt = Queue.new
  client.publish("/topic/ruby", "größer\n", options) { |frame| receipt << frame }
  message = received.pop
  puts "received #{message.body.dup.force_encoding("UTF-8").inspect} #{message.headers['mood'].inspect}"
  puts "receipt #{receipt.pop.command}"
  client.unsubscribe("/topic/ruby", { "id" => "s1" })
  client.close("receipt" => "bye")
  puts "closed"
end

connection = Stomp::Connection.new(
  hosts: [{ login: "ada", passcode: "lovelace", host: "127.0.0.1", port: port.to_i, ssl: ssl }],
  connect_headers: { "accept-version" => "1.2", "host" => "h" }, reliable: false
)
connection.publish("/nowhere/x", "?")
error = connection.receive
puts "refused #{error.command} #{error.headers['message']}"
puts "then #{connection.receive.inspect}"
