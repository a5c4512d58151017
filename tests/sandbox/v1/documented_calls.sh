# The calls of the API's documents, as they stand there. Two are mended: their pageview lacks its last brace, and their
# batch ends its lines in slashes for backslashes.

curl -X POST -H "Content-Type: application/json" -u 'YOUR_API_TOKEN:' \
'https://api.salesmachine.io/v1/ping'

curl -X POST -H "Content-Type: application/json" -u 'YOUR_API_TOKEN:' \
-d '{"contact_uid":"123456", "params" : { "email":"elon@teslamotors.com", "name":"Elon Musk", "gender":"male", "mrr": 99, "account_uid":"78910" }}' \
'https://api.salesmachine.io/v1/contact'

curl -X POST -H "Content-Type: application/json" -u 'YOUR_API_TOKEN:' \
-d '{"account_uid":"78910", "params" : {"name":"Tesla Motors", "employee_count":12000,"mrr":999}}' \
'https://api.salesmachine.io/v1/account'

curl -X POST -H "Content-Type: application/json" -u 'YOUR_API_TOKEN:' \
-d '{"contact_uid":"123456", "event_uid" : "user_registration", "params" : {"account_uid" : "78910", "display_name" : "Registration"}}' \
'https://api.salesmachine.io/v1/track/event'

curl -X POST -H "Content-Type: application/json" -u 'YOUR_API_TOKEN:' \
-d '{"contact_uid":"123456", "event_uid" : "pageview", "params" : {"account_uid" : "78910", "visit_url" : "http://myproduct.com/onboarding", "visit_ip" : "XX.XX.XX.XX", "visit_agent" : "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/43.0.2357.130 Safari/537.36"}}' \
'https://api.salesmachine.io/v1/track/event'

curl -X POST -H "Content-Type: application/json" -u 'YOUR_API_TOKEN:' \
-d '{"contact_uid":"123456", "alias" : "789"}' \
'https://api.salesmachine.io/v1/alias'

curl -X POST -H "Content-Type: application/json" -u 'YOUR_API_TOKEN:' \
-d '[{"account_uid":"78910", "params" : {"display_name":"Acme", "employee_count":12}, "method":"account"}, {"contact_uid":"123456", "event_uid" : "user_registration", "params" : {"account_uid" : "78910", "display_name" : "Registration"}, "method":"event"}, {"contact_uid":"123456", "event_uid" : "payment", "params" : {"account_uid" : "78910", "display_name" : "Payment"}, "method":"event"}]' \
'https://api.salesmachine.io/v1/batch'
